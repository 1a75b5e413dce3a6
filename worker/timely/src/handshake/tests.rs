//! [io] Tests of the handshake over loopback sockets.

use super::*;

fn identity(generation: u64, process: usize) -> Identity {
    Identity { uid: "job-1".to_owned(), generation, process }
}

fn listeners(count: usize) -> (Vec<TcpListener>, Vec<SocketAddr>) {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    (listeners, addresses)
}

const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn three_processes_meet_whoever_comes_first() {
    let (listeners, addresses) = listeners(3);
    let addresses = &addresses;
    let meshes: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..3)
            .rev()
            .zip(listeners.iter().rev())
            .map(|(process, listener)| scope.spawn(move || connect(&identity(4, process), listener, addresses, TIMEOUT).unwrap()))
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    // meshes[i] is process 2 - i: each pair of sockets is one connection.
    for a in 0..3_usize {
        for b in 0..3 {
            match (&meshes[2 - a][b], &meshes[2 - b][a]) {
                (None, None) => assert_eq!(a, b),
                (Some(mine), Some(theirs)) => assert_eq!(mine.local_addr().unwrap(), theirs.peer_addr().unwrap()),
                _ => panic!("{a} and {b} are half connected"),
            }
        }
    }
}

#[test]
fn strangers_are_sent_away_and_the_right_one_is_let_in() {
    let (listeners, addresses) = listeners(2);
    let mut older = TcpStream::connect(addresses[0]).unwrap();
    older.write_all(&hello(&identity(3, 1)).unwrap()).unwrap();
    let mut other_job = TcpStream::connect(addresses[0]).unwrap();
    other_job.write_all(&hello(&Identity { uid: "job-2".to_owned(), ..identity(4, 1) }).unwrap()).unwrap();
    let mut noise = TcpStream::connect(addresses[0]).unwrap();
    noise.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let gone = TcpStream::connect(addresses[0]).unwrap();
    drop(gone);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| connect(&identity(4, 0), &listeners[0], &addresses, TIMEOUT).unwrap());
        let second = scope.spawn(|| connect(&identity(4, 1), &listeners[1], &addresses, TIMEOUT).unwrap());
        let theirs = second.join().unwrap()[0].take().unwrap().local_addr().unwrap();
        assert_eq!(first.join().unwrap()[1].as_ref().unwrap().peer_addr().unwrap(), theirs);
    });
}

#[test]
fn who_meets_a_newer_generation_is_fenced() {
    let (listeners, addresses) = listeners(2);
    let mut newer = TcpStream::connect(addresses[0]).unwrap();
    newer.write_all(&hello(&identity(5, 1)).unwrap()).unwrap();
    let error = connect(&identity(4, 0), &listeners[0], &addresses, TIMEOUT).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced);
}

#[test]
fn a_peer_that_never_comes_is_named_after_the_deadline() {
    let (listeners, addresses) = listeners(2);
    let error = connect(&identity(1, 0), &listeners[0], &addresses, Duration::from_millis(30)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient);
    assert!(error.message.contains("process 1"), "{error}");
}

#[test]
fn a_uid_is_taken_up_to_the_limit() {
    let longest = Identity { uid: "x".repeat(MAX_UID_BYTES), ..identity(1, 0) };
    assert_eq!(read_hello(&mut hello(&longest).unwrap().as_slice()).unwrap(), longest);
    let longer = Identity { uid: "x".repeat(MAX_UID_BYTES + 1), ..identity(1, 0) };
    assert!(hello(&longer).is_err());
    let mut forged = hello(&longest).unwrap();
    forged[24..28].copy_from_slice(&(MAX_UID_BYTES as u32 + 1).to_le_bytes());
    assert!(read_hello(&mut forged.as_slice()).is_err());
}
