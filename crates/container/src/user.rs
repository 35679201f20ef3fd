//! Who a container's process runs as: what was typed, resolved against the image's own
//! `/etc/passwd` and `/etc/group`.
//!
//! The rules are docker's: `user`, `uid`, `user:group`, `uid:gid` and mixes; a number that is no
//! name stands for itself; without a group the user's own, plus every group that lists the user.
//! This module is pure: who reads the two files, and how safely, is elsewhere.

use std::fmt;

use crate::inside::shown_text;

/// Largest id that the runtime takes; both files and the command line are held to it.
const MAX_ID: u32 = i32::MAX.unsigned_abs();

/// More groups than this in one process is no user of ours (the kernel's own limit is 65536).
const MAX_SUPPLEMENTARY_GROUPS: usize = 1024;

/// A user as typed or as an image names it; empty means root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserSpec {
    user: String,
    group: Option<String>,
}

/// Why a text names no user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Not `USER[:GROUP]`.
    #[error("user `{}` is not of the form USER or USER:GROUP", shown_text(.0))]
    Form(String),
    /// No such name in the image.
    #[error("user `{}` is not in the image's /etc/passwd", shown_text(.0))]
    UnknownUser(String),
    /// No such name in the image.
    #[error("group `{}` is not in the image's /etc/group", shown_text(.0))]
    UnknownGroup(String),
    /// A number out of range.
    #[error("id `{}` is not between 0 and {MAX_ID}", shown_text(.0))]
    Range(String),
}

/// The numbers that the kernel wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, the primary one first.
    pub additional_gids: Vec<u32>,
    /// The home directory in `/etc/passwd`, or `/`.
    pub home: String,
}

impl UserSpec {
    /// Reads `USER[:GROUP]`.
    pub fn parse(text: &str) -> Result<Self, UserError> {
        let (user, group) = match text.split_once(':') {
            None => (text, None),
            Some((user, group)) => (user, Some(group)),
        };
        let bad = |part: &str| part.contains([':', '\n', '\0']);
        if bad(user) || group.is_some_and(|group| group.is_empty() || bad(group)) {
            return Err(UserError::Form(text.to_owned()));
        }
        Ok(Self {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        })
    }

    /// Finds the numbers, given the image's two files (empty when it has none).
    pub fn resolve(&self, passwd: &[u8], group: &[u8]) -> Result<ResolvedUser, UserError> {
        let account = self.account(passwd)?;
        let (gid, others) = match &self.group {
            Some(name) => (group_id(name, group)?, Vec::new()),
            None => (account.gid, memberships(account.name.as_deref(), group)),
        };
        let mut additional_gids = vec![gid];
        for other in others {
            let full = additional_gids.len() >= MAX_SUPPLEMENTARY_GROUPS;
            if !full && !additional_gids.contains(&other) {
                additional_gids.push(other);
            }
        }
        Ok(ResolvedUser {
            uid: account.uid,
            gid,
            additional_gids,
            home: account.home,
        })
    }

    fn account(&self, passwd: &[u8]) -> Result<Account, UserError> {
        let wanted = if self.user.is_empty() {
            "0"
        } else {
            &self.user
        };
        let number = parse_id(wanted)?;
        let mut by_number = None;
        for account in accounts(passwd) {
            if account.name.as_deref() == Some(wanted) {
                return Ok(account);
            }
            if by_number.is_none() && Some(account.uid) == number {
                by_number = Some(account);
            }
        }
        match (by_number, number) {
            (Some(account), _) => Ok(account),
            (None, Some(uid)) => Ok(Account::unnamed(uid)),
            (None, None) => Err(UserError::UnknownUser(self.user.clone())),
        }
    }
}

impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        match &self.group {
            Some(group) => write!(f, ":{group}"),
            None => Ok(()),
        }
    }
}

/// One line of `/etc/passwd`.
struct Account {
    name: Option<String>,
    uid: u32,
    gid: u32,
    home: String,
}

impl Account {
    fn unnamed(uid: u32) -> Self {
        Self {
            name: None,
            uid,
            gid: 0,
            home: String::from("/"),
        }
    }
}

/// The lines that are whole; others are skipped, as login programs do.
fn accounts(passwd: &[u8]) -> impl Iterator<Item = Account> {
    lines(passwd).filter_map(|fields| {
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else {
            return None;
        };
        let home = if home.starts_with('/') { home } else { "/" };
        Some(Account {
            name: Some((*name).to_owned()),
            uid: parse_id(uid).ok().flatten()?,
            gid: parse_id(gid).ok().flatten()?,
            home: home.to_owned(),
        })
    })
}

fn group_id(wanted: &str, group: &[u8]) -> Result<u32, UserError> {
    let number = parse_id(wanted)?;
    let named = groups(group).find(|(name, ..)| *name == wanted);
    named
        .map(|(_, gid, _)| gid)
        .or(number)
        .ok_or_else(|| UserError::UnknownGroup(wanted.to_owned()))
}

/// Ids of the groups that list a member by this name.
fn memberships(name: Option<&str>, group: &[u8]) -> Vec<u32> {
    let Some(name) = name else {
        return Vec::new();
    };
    groups(group)
        .filter(|(_, _, members)| members.split(',').any(|member| member.trim() == name))
        .map(|(_, gid, _)| gid)
        .collect()
}

fn groups(group: &[u8]) -> impl Iterator<Item = (&str, u32, &str)> {
    lines(group).filter_map(|fields| {
        let [name, _, gid, rest @ ..] = fields.as_slice() else {
            return None;
        };
        let gid = parse_id(gid).ok().flatten()?;
        Some((*name, gid, rest.first().copied().unwrap_or_default()))
    })
}

fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&str>> {
    file.split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

/// A number in range, `None` for a text that is no number.
fn parse_id(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(UserError::Range(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # a comment\n\
        app:x:1000:1001:App:/home/app:/bin/sh\n\
        1002:x:3000:3001::/numeric:/bin/sh\n\
        broken:x:nope:1::/:\n\
        short:x:5\n\
        nohome:x:6:7:::\n\
        big:x:4294967295:1::/:\n\
        \xff\xfe:x:8:8::/:\n";
    const GROUP: &[u8] =
        b"root:x:0:root\napp:x:1001:\naudio:x:29:app,other\nvideo:x:44:other, app\n\
        1005:x:5005:\nwheel:x:10:root\nbad:x:q:app\n";

    fn shown(text: &str) -> String {
        match UserSpec::parse(text).and_then(|user| user.resolve(PASSWD, GROUP)) {
            Ok(user) => format!(
                "{}:{} {:?} {}",
                user.uid, user.gid, user.additional_gids, user.home
            ),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn users() {
        let table = [
            ("", "0:0 [0, 10] /root"),
            ("root", "0:0 [0, 10] /root"),
            ("0", "0:0 [0, 10] /root"),
            ("app", "1000:1001 [1001, 29, 44] /home/app"),
            ("1000", "1000:1001 [1001, 29, 44] /home/app"),
            ("app:audio", "1000:29 [29] /home/app"),
            ("app:44", "1000:44 [44] /home/app"),
            ("app:777", "1000:777 [777] /home/app"),
            ("app:1005", "1000:5005 [5005] /home/app"),
            ("1002", "3000:3001 [3001] /numeric"),
            ("12345", "12345:0 [0] /"),
            ("12345:6", "12345:6 [6] /"),
            (":audio", "0:29 [29] /root"),
            ("nohome", "6:7 [7] /"),
            ("nobody", "user `nobody` is not in the image's /etc/passwd"),
            ("broken", "user `broken` is not in the image's /etc/passwd"),
            ("big", "user `big` is not in the image's /etc/passwd"),
            ("app:none", "group `none` is not in the image's /etc/group"),
            ("app:", "user `app:` is not of the form USER or USER:GROUP"),
            (
                "a:b:c",
                "user `a:b:c` is not of the form USER or USER:GROUP",
            ),
            (
                "2147483648",
                "id `2147483648` is not between 0 and 2147483647",
            ),
            ("-1", "user `-1` is not in the image's /etc/passwd"),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_image_without_the_files() {
        let root = UserSpec::default()
            .resolve(b"", b"")
            .expect("root needs no file");
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/"));
        assert!(
            UserSpec::parse("app")
                .expect("a form")
                .resolve(b"", b"")
                .is_err()
        );
    }
}
