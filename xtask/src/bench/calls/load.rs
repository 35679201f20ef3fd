//! A native load generator: some threads, each with a connection that it keeps and one call at a
//! time, so that the gateway is what is busy.

use std::sync::Barrier;
use std::thread;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};

use super::http::{Address, Connection};

/// As many calls at a time as a `map` of our package makes unless told otherwise.
const CONNECTIONS: u32 = 16;
const CALLS_OF_EACH: u32 = 250;

/// Calls a second that a gateway answers.
pub(super) fn per_second(address: Address<'_>, function: &str) -> Result<f64> {
    let begun = Barrier::new(CONNECTIONS as usize + 1);
    // Calls of one run have keys of their own.
    let run = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let seconds = thread::scope(|scope| {
        let caller = |number: u32| {
            let keys = (run.as_nanos() << 48) + (u128::from(number) << 32);
            let begun = &begun;
            scope.spawn(move || call(address, function, keys, begun))
        };
        let callers: Vec<_> = (0..CONNECTIONS).map(caller).collect();
        begun.wait();
        let begin = Instant::now();
        for caller in callers {
            caller.join().expect("a caller does not panic")?;
        }
        Ok::<_, anyhow::Error>(begin.elapsed().as_secs_f64())
    })?;
    Ok(f64::from(CONNECTIONS * CALLS_OF_EACH) / seconds)
}

/// Calls one after the other, once all are connected.
fn call(address: Address<'_>, function: &str, keys: u128, begun: &Barrier) -> Result<()> {
    let connection = Connection::open(address);
    begun.wait();
    let mut connection = connection.context("cannot connect to the gateway")?;
    for number in 0..CALLS_OF_EACH {
        connection.call(function, keys + u128::from(number))?;
    }
    Ok(())
}
