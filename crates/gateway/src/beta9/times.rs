//! Moments as the protocol has them.

use jiff::Timestamp;

/// A moment that has not come, or that nobody noted: the first second of year 1, of which the
/// client shows nothing. Where none is given it shows 1970.
pub(super) const UNKNOWN: prost_types::Timestamp = prost_types::Timestamp {
    seconds: -62_135_596_800,
    nanos: 0,
};

pub(super) fn at(moment: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: moment.as_second(),
        nanos: moment.subsec_nanosecond(),
    }
}
