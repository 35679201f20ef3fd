//! What the shaper wants to know of a packet as a TUN device gives it: a `virtio_net_hdr`, then IP.
//!
//! ```text
//!  0 flags | 1 gso_type | 2 hdr_len | 4 gso_size | 6 csum_start | 8 csum_offset | 10 the packet
//! ```
//!
//! With offload the kernel hands over many segments as one packet, headers once. On a wire each
//! segment has headers of its own; [`Packet::wire_bytes`] counts them.

use std::net::Ipv4Addr;

/// The header in front of each packet of a device with offload.
pub(super) const VIRTIO_BYTES: usize = 10;
/// The largest IP packet and the header before it.
pub(super) const MAX_BYTES: usize = VIRTIO_BYTES + u16::MAX as usize;

const TCP: u8 = 6;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// One direction of one TCP connection.
pub(super) type Flow = (Ipv4Addr, u16, Ipv4Addr, u16);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// None for what is not TCP over IPv4.
    pub(super) flow: Option<Flow>,
    /// The first packet of a connection, in the direction of who opens it.
    pub(super) opens: bool,
    /// Bytes of IP that a wire would carry.
    pub(super) wire_bytes: u64,
}

impl Packet {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let ip = bytes.get(VIRTIO_BYTES..).unwrap_or_default();
        let other = Self {
            flow: None,
            opens: false,
            wire_bytes: ip.len() as u64,
        };
        let Some(tcp) = tcp(ip) else { return other };
        let (Some(ports), Some(&offset), Some(&flags)) = (tcp.get(..4), tcp.get(12), tcp.get(13))
        else {
            return other;
        };
        let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
        let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
        let headers = ip.len() - tcp.len() + usize::from(offset >> 4) * 4;
        Self {
            flow: Some((address(12), port(0), address(16), port(2))),
            opens: flags & SYN != 0 && flags & ACK == 0,
            wire_bytes: wire_bytes(ip.len(), headers, segment_bytes(bytes)),
        }
    }
}

/// The TCP part of a packet of IPv4.
fn tcp(ip: &[u8]) -> Option<&[u8]> {
    let first = *ip.first()?;
    if first >> 4 != 4 || ip.get(9) != Some(&TCP) || ip.len() < 20 {
        return None;
    }
    ip.get(usize::from(first & 15) * 4..)
}

/// Payload bytes of each segment; 0 when the packet is one segment.
fn segment_bytes(bytes: &[u8]) -> usize {
    match bytes {
        [_, 0, ..] => 0,
        [_, _, _, _, low, high, ..] => usize::from(u16::from_le_bytes([*low, *high])),
        _ => 0,
    }
}

fn wire_bytes(total: usize, headers: usize, segment: usize) -> u64 {
    let payload = total.saturating_sub(headers);
    let segments = payload
        .checked_div(segment)
        .map_or(1, |_| payload.div_ceil(segment).max(1));
    (total + (segments - 1) * headers) as u64
}

#[cfg(test)]
mod tests {
    use super::{Packet, VIRTIO_BYTES};

    /// A packet of TCP with a payload of so many bytes.
    fn packet(flags: u8, gso_type: u8, segment: u16, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0; VIRTIO_BYTES + 40 + payload];
        bytes[1] = gso_type;
        bytes[4..6].copy_from_slice(&segment.to_le_bytes());
        let ip = &mut bytes[VIRTIO_BYTES..];
        ip[0] = 0x45;
        ip[9] = 6;
        ip[12..16].copy_from_slice(&[10, 0, 0, 1]);
        ip[16..20].copy_from_slice(&[10, 0, 0, 2]);
        ip[20..24].copy_from_slice(&[0x13, 0x88, 0, 80]);
        ip[32] = 5 << 4;
        ip[33] = flags;
        bytes
    }

    #[test]
    fn segments_are_counted_with_a_header_each() {
        let wire = |segment, gso, payload| Packet::parse(&packet(16, gso, segment, payload));
        assert_eq!(wire(1460, 0, 100).wire_bytes, 140);
        assert_eq!(wire(1460, 1, 14_600).wire_bytes, 15_000);
        assert_eq!(wire(1460, 1, 14_601).wire_bytes, 14_601 + 11 * 40);
        assert_eq!(wire(0, 1, 1000).wire_bytes, 1040, "no size: one segment");
    }

    #[test]
    fn the_first_packet_of_a_connection_is_known() {
        for (flags, opens) in [(2, true), (18, false), (16, false), (24, false)] {
            assert_eq!(
                Packet::parse(&packet(flags, 0, 0, 0)).opens,
                opens,
                "{flags}"
            );
        }
        let flow = Packet::parse(&packet(2, 0, 0, 0)).flow.unwrap();
        assert_eq!((flow.0.octets(), flow.1), ([10, 0, 0, 1], 5000));
        assert_eq!((flow.2.octets(), flow.3), ([10, 0, 0, 2], 80));
    }

    #[test]
    fn what_is_cut_off_or_no_tcp_is_carried_all_the_same() {
        let whole = packet(2, 1, 1460, 3000);
        for length in 0..whole.len() {
            let bytes = Packet::parse(&whole[..length]).wire_bytes;
            assert!(
                bytes >= length.saturating_sub(VIRTIO_BYTES) as u64,
                "{length}"
            );
        }
        let mut udp = packet(0, 0, 0, 0);
        udp[VIRTIO_BYTES + 9] = 17;
        assert!(Packet::parse(&udp).flow.is_none());
    }
}
