use super::*;
use crate::serve::refusal::Refusal;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// What hyper gets of these bytes when they come in pieces, and how that ends.
fn received(inbox: &mut Inbox, bytes: &[u8], size: usize) -> (Vec<u8>, Option<End>) {
    let (mut got, mut end) = (Vec::new(), None);
    for piece in bytes.chunks(size) {
        let (passed, ended) = inbox.take(piece);
        got.extend_from_slice(&piece[..passed]);
        loop {
            let mut room = [0; 24];
            let mut room = ReadBuf::new(&mut room);
            if !inbox.give(&mut room) {
                break;
            }
            got.extend_from_slice(room.filled());
        }
        if ended.is_some() {
            end = ended;
            break;
        }
    }
    (got, end)
}

#[test]
fn good_requests_are_given_as_they_came() {
    let all = [GET, b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", GET].concat();
    for size in 1..=all.len() {
        let mut inbox = Inbox::new(10);
        let (got, end) = received(&mut inbox, &all, size);
        assert!(got == all && end.is_none() && !inbox.in_head() && !inbox.is_cut(), "{size}");
        assert!(inbox.is_straight() && inbox.held.capacity() == 0, "an idle connection holds nothing");
    }
}

#[test]
fn a_bad_head_is_replaced_and_ends_it_all() {
    let bad = b"HEAD /a?b HTTP/1.1\r\nHost: a\n\r\n";
    let all = [GET, GET, bad, GET].concat();
    for size in 1..=all.len() {
        let mut inbox = Inbox::new(10);
        let (got, end) = received(&mut inbox, &all, size);
        assert_eq!(got, [GET, GET, STAND_IN_FOR_HEAD].concat(), "{size}");
        let Some(End::Refused(Refused { after: 2, refusal: Refusal::BareLineFeed, path })) = end else {
            panic!("{size}: {end:?}")
        };
        assert_eq!(path, "/a");
        assert!(inbox.is_closed() && inbox.is_cut() && !inbox.in_head());
    }
}

#[test]
fn a_bad_body_is_cut_off() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello";
    let all = [&head[..], b"!GET"].concat();
    for size in 1..=all.len() {
        let (got, end) = received(&mut Inbox::new(10), &all, size);
        assert!(got == head && matches!(end, Some(End::Body)), "{size}");
    }
}

#[test]
fn the_stand_ins_are_good_heads() {
    for head in [STAND_IN, STAND_IN_FOR_HEAD] {
        assert_eq!(Requests::new(10).pass(head), (head.len(), None));
    }
}

#[test]
fn http2_is_known_in_any_pieces() {
    let all = [PREFACE, &[0, 0, 1, 4, 0, 0, 0, 0, 0, b'\n'], &[0, 0, 9, 1, 4]].concat();
    for size in 1..=all.len() {
        let mut inbox = Inbox::new(10);
        let (got, end) = received(&mut inbox, &all, size);
        assert!(got == all && end.is_none() && inbox.in_head(), "{size}");
    }
    for other in ["PRI * HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"] {
        let (got, end) = received(&mut Inbox::new(10), other.as_bytes(), 1);
        assert!(got.ends_with(STAND_IN) && matches!(end, Some(End::Refused(_))), "{other:?}");
    }
}

#[test]
fn an_upgraded_connection_is_not_judged() {
    let mut inbox = Inbox::new(10);
    assert_eq!(received(&mut inbox, GET, 100).0, GET);
    let (got, _) = received(&mut inbox, b"G", 1);
    assert!(got.is_empty());
    inbox.upgrade();
    let (got, end) = received(&mut inbox, b"\n\n\0", 1);
    assert!(got.ends_with(b"\n\n\0") && end.is_none());
}

#[test]
fn paths_are_read_as_far_as_they_can_be() {
    for (head, path) in [
        (&b"GET /a/b?c HTTP/1.1\r\n"[..], "/a/b"),
        (b"\r\n\r\nGET /a\n", "/a"),
        (b"GET http://a/b HTTP/1.1\r\n", "/"),
        (b"GET /\x1b[2J HTTP/1.1\r\n", "/"),
        (b"GET /\xff HTTP/1.1\r\n", "/"),
        (b"GET\r\n", "/"),
        (b"\x16\x03", "/"),
    ] {
        assert_eq!(refuse::path_of(head), path);
    }
    assert_eq!(refuse::path_of(&[b"GET /", &[b'a'; 9_000][..]].concat()).len(), 1_024);
}
