//! A way to a store that can hold back every byte, in the middle of whatever is on it.

use crate::Store;
use crate::server::own_address;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Passed on at once, so that a hold comes in the middle of a request.
const PIECE: usize = 16 << 10;

/// Between clients and one store. Connections are taken also while bytes are held, as a stalled machine's kernel does.
#[derive(Clone, Debug)]
pub struct Proxy {
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Sent towards the store so far.
    passed: u64,
    /// Nothing passes, in no direction, from so many on.
    hold_at: Option<u64>,
    held: bool,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once so many bytes may pass.
    fn pass(&self, bytes: u64) {
        let mut state = self.state();
        while state.hold_at.is_some_and(|at| state.passed >= at) {
            state.held = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.passed += bytes;
    }
}

impl Proxy {
    /// The store, as it is reached through a proxy.
    pub fn before(store: &Store) -> (Self, Store) {
        let (head, endpoint) = store.url.split_once("endpoint=http://").expect("a store with an endpoint");
        let listener = TcpListener::bind((own_address(), 0)).unwrap();
        let url = format!("{head}endpoint=http://{}", listener.local_addr().unwrap());
        let proxy = Self { gate: Arc::default() };
        let (gate, upstream) = (Arc::clone(&proxy.gate), endpoint.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&upstream) else { continue };
                pump(&gate, &client, &server, true);
                pump(&gate, &server, &client, false);
            }
        });
        (proxy, Store { url, ..store.clone() })
    }

    /// From so many more bytes towards the store on, nothing passes.
    pub fn hold_after(&self, bytes: u64) {
        let mut state = self.gate.state();
        state.hold_at = Some(state.passed + bytes);
        state.held = false;
    }

    /// Whether somebody waits because of it.
    pub fn holds(&self) -> bool {
        self.gate.state().held
    }

    /// What was held goes on as if nothing had been.
    pub fn release(&self) {
        self.gate.state().hold_at = None;
        self.gate.changed.notify_all();
    }
}

/// On a thread of its own, which ends with the connection.
fn pump(gate: &Arc<Gate>, from: &TcpStream, to: &TcpStream, counts: bool) {
    let (gate, mut from, mut to) = (Arc::clone(gate), from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut piece = [0; PIECE];
        while let Ok(bytes @ 1..) = from.read(&mut piece) {
            gate.pass(if counts { bytes as u64 } else { 0 });
            if to.write_all(&piece[..bytes]).is_err() {
                break;
            }
        }
        let _ = (to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read));
    });
}
