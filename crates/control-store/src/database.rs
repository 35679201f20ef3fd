//! The store's database: its tables, who reads them and who writes.
//!
//! Each process has one connection that writes, whose transactions wait for those of others instead
//! of failing half-way, and a few that read.

mod group;

use database::{
    DatabaseAddress, Migration, OftenAsked, Opening, Readers, Reservation, Reserved, Rules, Server,
    Writer,
};

use crate::error::StoreError;
use crate::store::Durability;

use self::group::Group;

pub(crate) const RULES: Rules = Rules {
    schema: "holdfast_state",
    migrations: MIGRATIONS,
    // Who must not lose a change says so with it.
    durability: Durability::Process,
    overwrites_deleted: false,
};

const MIGRATIONS: &[Migration] = &[
    Migration::new(1, "control", include_str!("../migrations/0001_control.sql")),
    Migration::new(
        2,
        "functions",
        include_str!("../migrations/0002_functions.sql"),
    ),
    Migration::new(3, "builds", include_str!("../migrations/0003_builds.sql")),
    Migration::new(4, "calls", include_str!("../migrations/0004_calls.sql")),
    Migration::new(
        5,
        "deliveries",
        include_str!("../migrations/0005_deliveries.sql"),
    ),
    Migration::new(6, "shares", include_str!("../migrations/0006_shares.sql")),
    Migration::new(
        7,
        "workers hold",
        include_str!("../migrations/0007_workers_hold.sql"),
    ),
    Migration::new(
        8,
        "workspace removal",
        include_str!("../migrations/0008_workspace_removal.sql"),
    ),
    Migration::new(9, "offline", include_str!("../migrations/0009_offline.sql")),
];

/// The right to be the one gateway of a database on a server: a second one would take what the
/// first has under way for what an earlier run left. Others are told the name of the holder.
pub async fn reserve_gateway(server: &Server, holder: &str) -> Result<Reserved, StoreError> {
    Ok(Reservation::take(server, RULES.schema, "gateway", holder).await?)
}

/// The writer and the readers of one database.
#[derive(Debug)]
pub(crate) struct Database {
    readers: Readers,
    often: OftenAsked,
    group: Group,
}

impl Database {
    /// Opens the database, makes it when it is not there, and brings its tables up to date.
    pub(crate) async fn open(address: &DatabaseAddress) -> Result<Self, StoreError> {
        let opening = Opening::take(address, RULES.schema).await?;
        let writer = Writer::open(&opening, &RULES).await?;
        let readers = Readers::new(address, &RULES)?;
        Ok(Self {
            often: OftenAsked::beside(&readers),
            readers,
            group: Group::new(writer),
        })
    }

    pub(crate) fn reader(&self) -> &Readers {
        &self.readers
    }

    /// For what every request asks.
    pub(crate) fn often(&self) -> &OftenAsked {
        &self.often
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.often.close().await;
        self.group.close().await;
    }
}
