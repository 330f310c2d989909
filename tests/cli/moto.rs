//! An S3 server on loopback: moto's, which `scripts/moto` brings from PyPI into the folder of build outputs.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{free_port, wait};

/// Where it has to be had: then that it cannot is an error.
const NEEDED: &str = "QAPIPE_NEED_S3";

/// A running server, which ends with this.
pub(crate) struct Moto {
    process: Child,
    pub(crate) port: u16,
}

impl Moto {
    /// Starts a server; none where it cannot be had, which is told. From the request after the first `open` ones on it wants to know who asks.
    pub(crate) fn start(open: Option<u32>) -> Option<Self> {
        Self::serve(|port| {
            let mut command = Command::new("python3");
            command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
            if let Some(open) = open {
                command.env("INITIAL_NO_AUTH_ACTION_COUNT", open.to_string());
            }
            command
        })
    }

    /// The same for clients of Google Cloud Storage.
    pub(crate) fn as_google() -> Option<Self> {
        Self::serve(|port| {
            let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/moto_as_google"));
            command.arg(port.to_string());
            command
        })
    }

    fn serve(command: impl FnOnce(u16) -> Command) -> Option<Self> {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("moto");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/moto");
        let brought = Command::new(script).arg(&home).stdin(Stdio::null()).status().is_ok_and(|status| status.success());
        if !brought {
            assert!(std::env::var_os(NEEDED).is_none(), "moto could not be brought, and {NEEDED} is set");
            eprintln!("skipped: `scripts/moto` could not bring an S3 server");
            return None;
        }
        let port = free_port();
        let mut command = command(port);
        command.env("PYTHONPATH", &home).env("PYTHONDONTWRITEBYTECODE", "1");
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait("the S3 server", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self { process, port })
    }

    /// Puts something there without asking for leave: a bucket, an object.
    pub(crate) fn put(&self, path: &str, body: &[u8]) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!("PUT /{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A way to a server on which connections break off once so many bytes have passed, one way or the other.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    left: Arc<AtomicU64>,
    passed: Arc<AtomicU64>,
}

impl Proxy {
    pub(crate) fn to(server: u16, left: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, left, passed) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(left)), Arc::<AtomicU64>::default());
        let (budget, count) = (Arc::clone(&left), Arc::clone(&passed));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let (to, from) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                for (mut from, mut to) in [(client, server), (from, to)] {
                    let (budget, count) = (Arc::clone(&budget), Arc::clone(&count));
                    std::thread::spawn(move || pass_on(&mut from, &mut to, &budget, &count));
                }
            }
        });
        Self { port, left, passed }
    }

    /// Lets everything through from now on; gives how many bytes have passed so far.
    pub(crate) fn mend(&self) -> u64 {
        self.left.store(u64::MAX, Ordering::SeqCst);
        self.passed()
    }

    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }
}

/// Passes on what is said as far as the budget goes. Who has said all may still be answered.
fn pass_on(from: &mut TcpStream, to: &mut TcpStream, budget: &AtomicU64, count: &AtomicU64) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read) = from.read(&mut buffer) {
        let bytes = read as u64;
        let allowed = budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(bytes)).is_ok();
        if read == 0 {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        if !allowed || to.write_all(&buffer[..read]).is_err() {
            break;
        }
        count.fetch_add(bytes, Ordering::SeqCst);
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
