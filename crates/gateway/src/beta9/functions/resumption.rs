//! What the metadata of a call says about coming back to it.

use beta9_protocol::metadata::{LOG_OFFSET, TASK_ID};
use ids::TaskId;
use tonic::metadata::MetadataMap;

use crate::beta9::parse_id;
use crate::problem::Problem;

/// Whether this is a call that was made before, and whether there can be such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resumption {
    /// The client does not know how.
    Never,
    /// A new call, to which the client may come back.
    Possible,
    /// A call that was made before, seen up to this offset of its output.
    Of { task: TaskId, offset: u64 },
}

impl Resumption {
    pub(super) fn of(metadata: &MetadataMap) -> Result<Self, Problem> {
        let Some(task) = metadata.get(TASK_ID) else {
            return Ok(Self::Never);
        };
        if task.is_empty() {
            return Ok(Self::Possible);
        }
        let text = task.to_str().unwrap_or_default();
        let task = parse_id(text, TaskId::parse_uuid, "no task has such an id")?;
        let offset = match metadata.get(LOG_OFFSET) {
            None => Some(0),
            Some(offset) => offset.to_str().ok().and_then(|text| text.parse().ok()),
        };
        let offset = offset.ok_or_else(|| Problem::invalid("an offset is a number of bytes"))?;
        Ok(Self::Of { task, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_says_whether_a_client_can_come_back() {
        let id = TaskId::new();
        let uuid = id.uuid().to_string();
        let of = |offset| Some(Resumption::Of { task: id, offset });
        for (task, offset, expected) in [
            (None, None, Some(Resumption::Never)),
            (None, Some("7"), Some(Resumption::Never)),
            (Some(""), Some("0"), Some(Resumption::Possible)),
            (Some(""), None, Some(Resumption::Possible)),
            (Some(&*uuid), Some("7"), of(7)),
            (Some(&*uuid), None, of(0)),
            (Some(&*uuid), Some("-1"), None),
            (Some(&*uuid), Some(""), None),
            (Some("7"), Some("0"), None),
        ] {
            let mut metadata = MetadataMap::new();
            for (key, value) in [(TASK_ID, task), (LOG_OFFSET, offset)] {
                if let Some(value) = value {
                    metadata.insert(key, value.parse().unwrap());
                }
            }
            let read = Resumption::of(&metadata).ok();
            assert_eq!(read, expected, "{task:?} {offset:?}");
        }
    }
}
