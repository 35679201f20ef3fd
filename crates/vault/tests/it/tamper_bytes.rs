//! Every sealed row in the place of every other, every byte of each changed, every end cut off.
//!
//! `tamper` has the ways of writing to the database by what they mean; here nothing is left out.

use std::fmt;

use credential::ExposeSecret;
use ids::WorkspaceId;
use vault::{Damage, NewSecret, Vault, VaultError};

use crate::support::{
    Engine, READER, Setting, Stage, hex, name, on_each_engine, put, secret, tests_of,
};

on_each_engine!(
    bytes_of_another_row_do_not_open_behind_the_header_that_belongs_there,
    every_changed_byte_of_a_sealed_version_is_refused_by_its_field,
    every_cut_version_is_refused_as_cut,
    every_changed_bit_of_a_header_is_refused_by_its_field,
    every_changed_byte_of_what_names_the_keys_is_refused,
);
tests_of!(
    keys_under_a_file,
    crate::support::Setting::HERE,
    every_sealed_row_is_refused_in_the_place_of_every_other,
    every_changed_byte_and_every_cut_of_a_wrapped_key_is_refused,
);
tests_of!(
    keys_under_a_file_rows_on_a_server,
    crate::support::Setting::on(crate::support::Engine::Server),
    every_sealed_row_is_refused_in_the_place_of_every_other,
    every_changed_byte_and_every_cut_of_a_wrapped_key_is_refused,
);
tests_of!(
    keys_under_a_service,
    crate::support::Setting::SERVICE,
    every_sealed_row_is_refused_in_the_place_of_every_other,
    every_changed_byte_and_every_cut_of_a_wrapped_key_is_refused,
);

/// Every value of a length, so that no refusal is by the length where it should be by the cipher.
const VALUE_BYTES: usize = 10;
const HEADER_BYTES: usize = 118;
const SEALED_BYTES: usize = HEADER_BYTES + VALUE_BYTES + 16;
/// Under a root key that is in a file.
const WRAPPED_BYTES: usize = 61;

/// The fields of a sealed version, by where they end, and what a byte changed there is.
const SEALED_FIELDS: &[(usize, Damage)] = &[
    (2, Damage::Altered),
    (18, Damage::WrongKey),
    (38, Damage::Swapped),
    (70, Damage::Renamed),
    (114, Damage::Altered),
    (118, Damage::Truncated),
    (SEALED_BYTES, Damage::Altered),
];

/// A vault of two workspaces: in the first `a` at version 2, with version 1 leased, and `b`; in
/// the other one its own `a`, and `keyless`, which has no secret and stands in the clear.
struct Small {
    stage: Stage,
    other: WorkspaceId,
    rows: Vec<Row>,
}

/// A place where something sealed stands.
#[derive(Clone, Copy, PartialEq)]
enum Row {
    Version {
        workspace: WorkspaceId,
        name: &'static str,
        version: u32,
    },
    WorkspaceKey(WorkspaceId),
    AuditKey,
}

/// What whoever reads a row is told.
#[derive(Debug, PartialEq)]
enum Told {
    Value(String),
    Damage(Damage),
    WorkspaceKeyDamaged,
    AuditDamaged,
    RootKeyWrong,
}

impl Small {
    async fn on(engine: Engine) -> Self {
        Self::with(Setting::on(engine)).await
    }

    async fn with(setting: Setting) -> Self {
        let stage = Stage::with(setting).await;
        let (first, other) = (stage.workspace, WorkspaceId::new());
        let old = stage.put("a", "first a, 1").await;
        let request = vault::LeaseRequest {
            workspace: first,
            sealed: old,
            image: "ghcr.io/x",
            repository: "ghcr.io/acme/app",
            reader: READER,
        };
        stage.vault.begin_lease(request).await.unwrap();
        stage.put("a", "first a, 2").await;
        stage.put("b", "first b, 1").await;
        put(&stage.vault, other, "a", "other a, 1").await.unwrap();
        put_keyless(&stage.vault, other).await;
        let version = |workspace, name, version| Row::Version {
            workspace,
            name,
            version,
        };
        let rows = vec![
            version(first, "a", 1),
            version(first, "a", 2),
            version(first, "b", 1),
            version(other, "a", 1),
            version(other, KEYLESS, 1),
            Row::WorkspaceKey(first),
            Row::WorkspaceKey(other),
            Row::AuditKey,
        ];
        Self { stage, other, rows }
    }

    fn versions(&self) -> impl Iterator<Item = Row> {
        let rows = self.rows.iter().copied();
        rows.filter(|row| matches!(row, Row::Version { .. }))
    }

    fn wrapped(&self) -> impl Iterator<Item = Row> {
        let rows = self.rows.iter().copied();
        rows.filter(|row| !matches!(row, Row::Version { .. }))
    }

    async fn read(&self, row: Row) -> Vec<u8> {
        let (column, from) = row.place();
        self.stage
            .blob(&format!("SELECT {column} FROM {from}"))
            .await
    }

    async fn write(&self, row: Row, bytes: &[u8]) {
        let (column, from) = row.place();
        self.stage.sql(&update(column, &from, bytes)).await;
    }

    /// What is told to the process that is open and knows the keys, or for a key to the next one.
    async fn told(&self, row: Row) -> Told {
        match row {
            Row::Version {
                workspace,
                name,
                version,
            } => told_of(&self.stage.vault, workspace, name, version).await,
            Row::WorkspaceKey(workspace) => self.told_to_the_next(workspace).await,
            Row::AuditKey => self.told_to_the_next(self.other).await,
        }
    }

    async fn told_to_the_next(&self, workspace: WorkspaceId) -> Told {
        match self.stage.again().await {
            Ok(vault) => told_of(&vault, workspace, "a", 1).await,
            Err(error) => Told::by(error),
        }
    }

    /// Nothing that was put back has left a trace.
    async fn check_whole(&self, what: &dyn fmt::Debug) {
        let vault = self.stage.again().await.unwrap();
        let report = vault.verify(None).await.unwrap();
        assert!(report.is_sound(), "{what:?}: {report:?}");
        assert_eq!((report.workspaces, report.versions_opened), (2, 5));
    }

    /// Writes each of these in the row's place, reads, and puts back what was there.
    async fn check_each(&self, row: Row, changed: Vec<(Vec<u8>, Told)>) {
        let original = self.read(row).await;
        for (number, (bytes, expected)) in changed.into_iter().enumerate() {
            self.write(row, &bytes).await;
            assert_eq!(self.told(row).await, expected, "{row:?}: change {number}");
            if let Row::Version { .. } = row {
                self.check_found(&expected, row).await;
            }
        }
        self.write(row, &original).await;
        self.check_whole(&row).await;
    }

    /// `verify` finds it too, and nothing else.
    async fn check_found(&self, told: &Told, row: Row) {
        let Told::Damage(damage) = told else {
            panic!("{row:?}: {told:?}");
        };
        let report = self.stage.vault.verify(None).await.unwrap();
        let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
        assert_eq!(kinds, [damage.as_str()], "{row:?}");
    }
}

impl Row {
    /// The column, and table and row.
    fn place(self) -> (&'static str, String) {
        match self {
            Self::Version {
                workspace,
                name,
                version,
            } => {
                let of = format!("name = '{name}' AND workspace = '{workspace}'");
                let id = format!("SELECT secret_id FROM secret WHERE {of}");
                let row = format!("secret_id = ({id}) AND version = {version}");
                ("sealed", format!("secret_version WHERE {row}"))
            }
            Self::WorkspaceKey(workspace) => {
                let row = format!("workspace = '{workspace}'");
                ("wrapped", format!("workspace_key WHERE {row}"))
            }
            Self::AuditKey => ("audit_key", "vault".to_owned()),
        }
    }

    /// What is told when the bytes of another row stand here.
    fn told_of_another(self, other: Self) -> Told {
        match (self, other) {
            (Self::Version { .. }, Self::Version { .. }) => Told::Damage(Damage::Swapped),
            // A wrapped key is shorter than the header of a sealed version.
            (Self::Version { .. }, _) => Told::Damage(Damage::Truncated),
            _ => self.told_of_damage(),
        }
    }

    /// What is told when a wrapped key does not open, however that came.
    fn told_of_damage(self) -> Told {
        match self {
            Self::AuditKey => Told::AuditDamaged,
            _ => Told::WorkspaceKeyDamaged,
        }
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (column, from) = self.place();
        write!(formatter, "{column} of {from}")
    }
}

impl Told {
    fn by(error: VaultError) -> Self {
        assert!(error.hint().is_some(), "{error}");
        match error {
            VaultError::Damaged { damage, .. } => Self::Damage(damage),
            VaultError::WorkspaceKeyDamaged { .. } => Self::WorkspaceKeyDamaged,
            VaultError::AuditDamaged { .. } => Self::AuditDamaged,
            VaultError::RootKeyWrong { .. } => Self::RootKeyWrong,
            error => panic!("{error}"),
        }
    }
}

/// The statement that puts these bytes into a column of a table, or of some of its rows.
fn update(column: &str, from: &str, bytes: &[u8]) -> String {
    let (table, condition) = from.split_once(" WHERE ").unwrap_or((from, "true"));
    let digits = hex(bytes);
    format!("UPDATE {table} SET {column} = unhex('{digits}') WHERE {condition}")
}

const KEYLESS: &str = "keyless";

async fn put_keyless(vault: &Vault, workspace: WorkspaceId) {
    let new = NewSecret {
        name: &name(KEYLESS),
        kind: "aws",
        scope: "r.example",
        plaintext: &secret(""),
        in_clear: Some("arn:aws:iam::123456789012:role/puller"),
    };
    vault.put(workspace, new, "t").await.unwrap();
}

async fn told_of(vault: &Vault, workspace: WorkspaceId, secret: &str, version: u32) -> Told {
    let name = name(secret);
    match vault
        .open_secret(workspace, &name, Some(version), "t")
        .await
    {
        Ok(opened) => Told::Value(opened.plaintext.expose_secret().to_owned()),
        Err(error) => Told::by(error),
    }
}

async fn every_sealed_row_is_refused_in_the_place_of_every_other(setting: Setting) {
    let small = Small::with(setting).await;
    small.check_whole(&"before").await;
    let mut swaps = 0;
    for (at, &one) in small.rows.iter().enumerate() {
        for &other in &small.rows[at + 1..] {
            let (first, second) = (small.read(one).await, small.read(other).await);
            small.write(one, &second).await;
            small.write(other, &first).await;
            let told = small.told(other).await;
            assert_eq!(told, other.told_of_another(one), "{one:?} and {other:?}");
            // Nobody opens a vault with another audit key, to be told of its workspaces' keys.
            if other == Row::AuditKey {
                small.write(other, &second).await;
            }
            let told = small.told(one).await;
            assert_eq!(told, one.told_of_another(other), "{one:?} and {other:?}");
            small.write(one, &first).await;
            small.write(other, &second).await;
            small.check_whole(&(one, other)).await;
            swaps += 1;
        }
    }
    assert_eq!(swaps, 8 * 7 / 2);
}

/// The header says what stands in the row, so that it agrees with it; behind it is another's.
async fn bytes_of_another_row_do_not_open_behind_the_header_that_belongs_there(engine: Engine) {
    let small = Small::on(engine).await;
    // The keyless one is of another length.
    let rows: Vec<Row> = small.versions().take(4).collect();
    let mut mixed = 0;
    for &row in &rows {
        let ours = small.read(row).await;
        let mut changed = Vec::new();
        for &other in rows.iter().filter(|other| **other != row) {
            let theirs = small.read(other).await;
            for cut in [70, 102, HEADER_BYTES, SEALED_BYTES - 16] {
                let bytes = [&ours[..cut], &theirs[cut..]].concat();
                changed.push((bytes, Told::Damage(Damage::Altered)));
                mixed += 1;
            }
        }
        small.check_each(row, changed).await;
    }
    assert_eq!(mixed, 4 * 3 * 4);
}

async fn every_changed_byte_of_a_sealed_version_is_refused_by_its_field(engine: Engine) {
    let small = Small::on(engine).await;
    for (number, row) in small.versions().enumerate() {
        let original = small.read(row).await;
        let keyless_bytes = SEALED_BYTES - VALUE_BYTES;
        assert!([SEALED_BYTES, keyless_bytes].contains(&original.len()));
        let changed = (0..original.len()).map(|at| {
            let mut bytes = original.clone();
            bytes[at] ^= 1 << ((at + number) % 8);
            (bytes, Told::Damage(damage_at(at)))
        });
        small.check_each(row, changed.collect()).await;
    }
}

/// What a changed byte of a sealed version is told as.
fn damage_at(byte: usize) -> Damage {
    let field = SEALED_FIELDS.iter().find(|(end, _)| byte < *end);
    field.expect("a byte of a version").1
}

async fn every_changed_bit_of_a_header_is_refused_by_its_field(engine: Engine) {
    let small = Small::on(engine).await;
    // One that has a secret, and the keyless one.
    for row in small.versions().skip(3) {
        let original = small.read(row).await;
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = original.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            small.write(row, &bytes).await;
            let expected = Told::Damage(damage_at(bit / 8));
            assert_eq!(small.told(row).await, expected, "{row:?}: bit {bit}");
        }
        small.write(row, &original).await;
        small.check_whole(&row).await;
    }
}

async fn every_cut_version_is_refused_as_cut(engine: Engine) {
    let small = Small::on(engine).await;
    for row in small.versions() {
        let original = small.read(row).await;
        let cuts = (0..original.len()).map(|length| &original[..length]);
        let cut = cuts.map(|bytes| (bytes.to_vec(), Told::Damage(Damage::Truncated)));
        small.check_each(row, cut.collect()).await;
    }
}

async fn every_changed_byte_and_every_cut_of_a_wrapped_key_is_refused(setting: Setting) {
    let small = Small::with(setting).await;
    for row in small.wrapped() {
        let original = small.read(row).await;
        // A service's own is longer.
        let is_short = original.len() == WRAPPED_BYTES;
        assert_eq!(is_short, !setting.is_kept_by_service(), "{row:?}");
        let mut changed = Vec::new();
        for at in 0..original.len() {
            let mut bytes = original.clone();
            bytes[at] ^= 1 << (at % 8);
            changed.push((bytes, row.told_of_damage()));
            changed.push((original[..at].to_vec(), row.told_of_damage()));
        }
        changed.push(([&original[..], &[0]].concat(), row.told_of_damage()));
        small.check_each(row, changed).await;
    }
}

/// The vault's own row, and the ids of keys: what everything sealed is bound to.
async fn every_changed_byte_of_what_names_the_keys_is_refused(engine: Engine) {
    let small = Small::on(engine).await;
    let workspace = small.stage.workspace;
    let of_workspace = format!("workspace_key WHERE workspace = '{workspace}'");
    for (column, from, expected) in [
        ("vault_id", "vault", Told::AuditDamaged),
        ("audit_key_id", "vault", Told::AuditDamaged),
        ("root_key_id", "vault", Told::RootKeyWrong),
        ("key_id", of_workspace.as_str(), Told::WorkspaceKeyDamaged),
    ] {
        let original = small
            .stage
            .blob(&format!("SELECT {column} FROM {from}"))
            .await;
        for at in 0..original.len() {
            let mut bytes = original.clone();
            bytes[at] ^= 1 << (at % 8);
            small.stage.sql(&update(column, from, &bytes)).await;
            let told = small.told_to_the_next(workspace).await;
            assert_eq!(told, expected, "{column} byte {at}");
        }
        small.stage.sql(&update(column, from, &original)).await;
        small.check_whole(&column).await;
    }
}
