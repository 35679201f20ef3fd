//! A file of certificate authorities in PEM, trusted besides those of the machine: for a gateway
//! they are put to use here, for a registry they go with its credential as they stand.

use std::path::Path;

use reqwest::{Certificate, ClientBuilder};

use crate::bounded_file;
use crate::failure::{Failure, Result};

/// Those of a whole distribution have a quarter of it.
const LIMIT_BYTES: u64 = 1 << 20;

/// The file, which whoever puts it to use looks into.
pub(crate) fn read_pem(path: &Path) -> Result<Vec<u8>> {
    let read = bounded_file::read(path, LIMIT_BYTES);
    let pem = read.map_err(|error| bounded_file::failure(subject(path), &error))?;
    Ok(pem.to_vec())
}

/// The authorities in the file, of which there is at least one.
pub(crate) fn read(path: &Path) -> Result<Vec<Certificate>> {
    let found = Certificate::from_pem_bundle(&read_pem(path)?).unwrap_or_default();
    // What is in the PEM is looked at when it is put to use.
    let used = ClientBuilder::new().tls_certs_only(found.clone()).build();
    if found.is_empty() || used.is_err() {
        let message = format!("{}: no certificate in PEM", subject(path));
        return Err(Failure::invalid(message));
    }
    Ok(found)
}

fn subject(path: &Path) -> String {
    format!("certificate authority {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounded_file::tests::pipe_of;

    #[test]
    fn what_shows_no_length_is_bounded_too() {
        let (_pipe, path) = pipe_of(b'\n', LIMIT_BYTES);
        assert_eq!(read_pem(&path).unwrap().len() as u64, LIMIT_BYTES);
        let (_pipe, path) = pipe_of(b'\n', LIMIT_BYTES + 1);
        assert!(read_pem(&path).unwrap_err().message.contains("longer than"));
    }
}
