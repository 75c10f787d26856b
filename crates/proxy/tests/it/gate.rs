//! What stands between the proxy and STS, closed or open: while it is closed, it takes connections and nothing comes back.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::rig::{pause, runtime};

/// A forwarder that begins closed.
pub(crate) struct Gate {
    /// `http://127.0.0.1:PORT`
    pub(crate) endpoint: String,
    open: watch::Sender<bool>,
    connections: Arc<AtomicUsize>,
    running: tokio::task::JoinHandle<()>,
}

impl Gate {
    /// In front of an `http://127.0.0.1:PORT`.
    pub(crate) fn before(upstream: &str) -> Self {
        let upstream = upstream.trim_start_matches("http://").to_owned();
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (open, is_open) = watch::channel(false);
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let running = runtime().spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                all.spawn(forward(stream, upstream.clone(), is_open.clone()));
            }
        });
        Self { endpoint, open, connections, running }
    }

    /// Lets through what has come and what will come.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }

    /// Takes what will come and gives nothing back.
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    /// How many connections have come.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until so many have come.
    pub(crate) fn wait_for_connections(&self, wanted: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.connections() < wanted {
            assert!(Instant::now() < deadline, "{} connections to STS and not {wanted}", self.connections());
            pause();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn forward(mut stream: TcpStream, upstream: String, mut is_open: watch::Receiver<bool>) {
    let Ok(_) = is_open.wait_for(|open| *open).await else { return };
    let Ok(mut upstream) = TcpStream::connect(upstream).await else { return };
    // What is kept alive while it is open is silent, too, once it is closed.
    loop {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream) => return,
            _ = is_open.wait_for(|open| !open) => {}
        }
        let Ok(_) = is_open.wait_for(|open| *open).await else { return };
    }
}
