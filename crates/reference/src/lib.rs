//! Image names: the grammar, parsing, normalising and printing. Pure: no I/O, no environment.
//!
//! ```text
//! reference   = [ prefix ] name [ ":" tag ] [ "@" digest ]
//! prefix      = "docker://" | "oci://"                      stripped, once
//! name        = [ registry "/" ] path
//! registry    = host [ ":" port ]
//! host        = label *( "." label ) | "[" IPv6 "]"         IPv6 may end in an IPv4 address
//! label       = alnum [ *( alnum | "-" ) alnum ]            either case; compared lower-case
//! port        = 1*digit                                     1 to 65535
//! path        = part *( "/" part )                          at most 255 bytes, with "library/"
//! part        = 1*( a-z | 0-9 ) *( separator 1*( a-z | 0-9 ) )
//! separator   = "." | "_" | "__" | 1*"-"
//! tag         = ( alnum | "_" ) *127( alnum | "_" | "." | "-" )
//! digest      = "sha256:" 64hex | "sha512:" 128hex          lower-case hex
//! ```
//!
//! This is the grammar of `distribution/reference`, in ASCII, read by hand-written code. The first
//! part of a name that has a `/` is a registry when it is `localhost`, holds a `.` or a `:`, or
//! holds an upper-case letter; otherwise, and always without a `/`, the registry is Docker Hub.
//! A name that does not parse is an error: no registry is ever guessed from the remains.
//!
//! What the grammar leaves open is decided here (`docs/reference.md` compares each decision with
//! `distribution/reference`):
//!
//! * `docker.io`, `index.docker.io` and `registry-1.docker.io`, in any case, with or without
//!   `:443`, are one registry, `docker.io`; a path of one part there gets `library/`.
//! * Hosts are lower-cased, IPv6 addresses are printed in their shortest form, and `:443` does not
//!   distinguish two registries. A host whose last label is a number must be an IPv4 address.
//! * [`Reference::typed`] is what was typed; equality, order and hash are of
//!   [`Reference::canonical`], which names the digest alone when there is one.

mod characters;
mod digest;
mod error;
mod image_name;
mod registry;
mod repository;

pub use digest::{Digest, ParseDigestError};
pub use error::ParseReferenceError;
pub use image_name::{Reference, Selector, TEXT_LIMIT};
pub use registry::{ParseRegistryError, Registry};
pub use repository::{PATH_LIMIT, ParseRepositoryError, check_repository};
