//! The network: connections are answered until the shutdown, then given a moment to finish, and none outlives `run`.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::Emulator;
use crate::error::Error;
use crate::exchange::{answer, fault_of};
use crate::faults;

/// Bytes. What fits into a session fits into a quarter of it, percent-encoded.
const MAX_BODY: usize = 64 * 1024;
/// Bytes read and thrown away beyond it, because a client that is still sending would not read the answer.
const MAX_DISCARDED: usize = 1024 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Also how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) async fn run(
    emulator: Emulator,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (stop, stopping) = watch::channel(());
    // Dropping the set ends its tasks, so whichever way this function is left, no connection stays behind.
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(emulator.clone(), stream, stopping.clone()));
                }
                Err(error) => after(error).await?,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop((listener, stop));
    // Whoever needs longer than that is cut off: the work of a request is over in less than a millisecond.
    let _ = timeout(SHUTDOWN_GRACE, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// Waits and goes on where the next accept may succeed; gives the error back where it will not.
async fn after(error: io::Error) -> io::Result<()> {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted, _) => Ok(()),
        (_, Some(ENFILE | EMFILE)) => {
            warn!(%error, "the STS emulator cannot accept connections: raise the limit on open files");
            sleep(ACCEPT_PAUSE).await;
            Ok(())
        }
        _ => Err(error),
    }
}

async fn serve(emulator: Emulator, stream: TcpStream, mut stopping: watch::Receiver<()>) {
    // Without it, an answer in two writes waits for the client's delayed acknowledgement. A failure costs only time.
    let _ = stream.set_nodelay(true);
    let stop = stopping.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (emulator, mut stopping) = (emulator.clone(), stop.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = timeout(BODY_TIMEOUT, read(body)).await.unwrap_or(Err(Error::RequestTimeout));
            let fault = fault_of(&emulator, &head, &body);
            faults::wait(fault.as_ref()).await;
            let (answer, met) = answer(&emulator, &head, body, fault);
            faults::deliver(met.as_ref(), answer, &mut stopping).await
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // An error of a connection is its client's affair: it hung up, or does not speak HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn read(mut body: Incoming) -> Result<Bytes, Error> {
    let mut collected = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::RequestTimeout)?;
        let Some(bytes) = frame.data_ref() else { continue };
        length += bytes.len();
        if length <= MAX_BODY {
            collected.extend_from_slice(bytes);
        } else if length > MAX_BODY + MAX_DISCARDED {
            break;
        }
    }
    if length > MAX_BODY {
        return Err(Error::RequestEntityTooLarge { limit: MAX_BODY });
    }
    Ok(Bytes::from(collected))
}
