//! Hard stops: processes killed, the power cut, disks and descriptors at their end, files damaged.
//!
//! After each of them the same must hold: the next command works, nothing of ours runs or is
//! mounted, the vault is sound, and no wrong byte was read.

mod damage;
mod kills;
mod power;
mod scarcity;
mod scene;
