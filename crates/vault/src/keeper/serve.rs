//! The keeper's main function: one question, one answer, until the other end closes.
//!
//! No threads and no runtime, so that it is there within milliseconds and little code stands around
//! the key. It believes its parent in nothing but its questions: whatever is malformed or out of
//! order ends it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::net::UnixStream;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};
use rustix::thread::set_no_new_privs;

use super::wire::{self, Hex, Opening, Reply, Request, WireError, WireFailure};
use crate::error::VaultError;
use crate::keys::{Key, KeyId, Wrapped};
use crate::root_key::Holder;

/// Address space: the program itself, its libraries and a stack; the key needs a page.
const MEMORY_MAX_BYTES: u64 = 256 << 20;
/// The socket, and a key file with its directory, beside what was open at the beginning: the
/// parent puts nothing in the place of files that it inherited, which keeps their numbers taken.
const DESCRIPTORS_MORE: u64 = 13;

/// How a keeper ended otherwise than by its parent's end.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("the key keeper was not started by holdfast: its standard input is no socket")]
    NotASocket,
    #[error("cannot set the key keeper up")]
    Setup(#[source] io::Error),
    #[error("the parent's question is unusable")]
    Protocol(#[from] WireError),
}

/// The main function of a process that holds a root key: its questions come over the socket that is
/// its standard input. To be called before any thread is started.
pub fn keep_root_key() -> Result<(), KeeperError> {
    let socket = inherited_socket()?;
    if let Err(error) = harden() {
        let failed = Reply::Failed(WireFailure::io("key keeper", &error));
        wire::write(&socket, &failed)?;
        return Err(KeeperError::Setup(error));
    }
    Ok(serve(&socket)?)
}

/// Takes the socket from standard input, so that nothing reads it by accident.
fn inherited_socket() -> Result<UnixStream, KeeperError> {
    let stdin = rustix::stdio::stdin();
    let kind = rustix::fs::fstat(stdin).map(|stat| FileType::from_raw_mode(stat.st_mode));
    if !matches!(kind, Ok(FileType::Socket)) {
        return Err(KeeperError::NotASocket);
    }
    let take = || -> io::Result<UnixStream> {
        let socket = stdin.try_clone_to_owned()?;
        let null = OpenOptions::new().read(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(null)?;
        Ok(UnixStream::from(socket))
    };
    take().map_err(KeeperError::Setup)
}

/// Puts up the walls around the key, before anything is read: nobody sees this memory, no signal
/// that a terminal sends to the command arrives here, and little can be had by whoever gets in.
fn harden() -> io::Result<()> {
    confine::forbid_dumps()?;
    set_no_new_privs(true)?;
    // A process that leads its group, as one typed into a shell, is refused one; it is in a session
    // of its own or can do without. The group itself is not asked for: one of another namespace
    // has no number here.
    match setsid() {
        Ok(_) | Err(Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    limit(Resource::As, MEMORY_MAX_BYTES)?;
    limit(Resource::Nofile, first_free()? + DESCRIPTORS_MORE)
}

/// The number above all that are taken.
fn first_free() -> io::Result<u64> {
    let mut first_free = 0;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
        first_free = first_free.max(number.map_or(0, |number| number + 1));
    }
    Ok(first_free)
}

/// Never more than there was: that would take a privilege.
fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let most = getrlimit(resource)
        .maximum
        .map_or(most, |maximum| maximum.min(most));
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, limit)?)
}

fn serve(socket: &UnixStream) -> Result<(), WireError> {
    let Some((opening, file)) = wire::read::<Opening>(socket)? else {
        return Ok(());
    };
    let holder = Holder::for_another(&opening.source(), file);
    while let Some((request, lock)) = wire::read::<Request>(socket)? {
        if request.changes_files() && lock.is_none() {
            return Err(WireError::Malformed("it has no lock".to_owned()));
        }
        let reply = answer(&holder, &request).unwrap_or_else(|error| Reply::Failed(error.into()));
        // Held until here, whatever has become of the parent.
        drop(lock);
        wire::write(socket, &reply)?;
    }
    Ok(())
}

fn answer(holder: &Holder, request: &Request) -> Result<Reply, VaultError> {
    Ok(match request {
        Request::First { data } => id(holder.first(data.path())?),
        Request::BeginRotation { current, keep_old } => {
            let keep_old = keep_old.as_ref().map(wire::HexPath::path);
            id(holder.begin_rotation(current.into(), keep_old)?)
        }
        Request::Require { root } => {
            holder.require(root.into())?;
            Reply::Done
        }
        Request::Settle { root } => {
            holder.settle(root.into())?;
            Reply::Done
        }
        Request::Wrap { root, binding, key } => {
            let key = Key::from_bytes(key.0.clone());
            let wrapped = holder.wrap(root.into(), binding.binding(), &key)?;
            let wrapped = wrapped.try_into().expect("a wrapped key has one length");
            Reply::Wrapped {
                bytes: Hex::of(&wrapped),
            }
        }
        Request::Unwrap {
            root,
            binding,
            key_id,
            wrapped,
        } => {
            let wrapped = Wrapped {
                key_id: key_id.into(),
                bytes: wrapped.0.as_slice(),
            };
            match holder.unwrap(root.into(), binding.binding(), wrapped)? {
                Some(key) => Reply::Key {
                    key: Hex::of(key.bytes()),
                },
                None => Reply::Unopened,
            }
        }
    })
}

fn id(id: KeyId) -> Reply {
    Reply::Id { id: id.into() }
}
