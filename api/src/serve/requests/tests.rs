use super::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str =
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 29\r\n\r\nGET /inner HTTP/1.1\r\nbad\n\r\n\r\n";
const CHUNKED: &str = "POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: a\r\n\r\n1d\r\nGET /inner HTTP/1.1\r\nbad\n\r\n\r\n\r\n0\r\n\r\n";

/// Shows bytes in pieces, as a connection does: what has not passed is shown again with the next piece.
fn show(requests: &mut Requests, bytes: &[u8], size: usize) -> (usize, Option<Stop>) {
    let (mut passed, mut shown) = (0, 0);
    while shown < bytes.len() {
        shown = (shown + size).min(bytes.len());
        let (more, stop) = requests.pass(&bytes[passed..shown]);
        passed += more;
        if stop.is_some() {
            return (passed, stop);
        }
    }
    (passed, None)
}

#[test]
fn only_heads_are_judged_in_any_pieces() {
    let all = [GET, "\r\n\r\n", POST, GET, CHUNKED, "\r\n", POST, CHUNKED, GET].concat();
    for size in 1..all.len() {
        let mut requests = Requests::new(10);
        assert_eq!(show(&mut requests, all.as_bytes(), size), (all.len(), None), "{size}");
        assert_eq!((requests.heads(), requests.in_body()), (7, false), "{size}");
    }
}

#[test]
fn a_head_that_is_not_whole_does_not_pass() {
    let mut requests = Requests::new(10);
    for end in 1..GET.len() {
        assert_eq!(requests.pass(&GET.as_bytes()[..end]), (0, None));
    }
    assert_eq!(requests.pass(GET.as_bytes()), (GET.len(), None));
    let post = POST.as_bytes();
    assert_eq!(requests.pass(&post[..post.len() - 1]), (post.len() - 1, None));
    assert!(requests.in_body());
}

#[test]
fn nothing_passes_from_a_bad_head_on() {
    let bad = [
        ("GET / HTTP/1.1\nHost: a\n\n", Refusal::BareLineFeed),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Refusal::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Refusal::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Refusal::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\r\nb: c\nd: e\r\n\r\n", Refusal::BareLineFeed),
        ("GET / HTTP/1.1\r\n\r\n", Refusal::NoHost),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            Refusal::LengthAndCoding,
        ),
    ];
    for (head, refusal) in bad {
        for before in ["", GET, POST, CHUNKED] {
            let all = [before, head, GET].concat();
            for size in [1, 2, 5, 30, all.len()] {
                let mut requests = Requests::new(10);
                let stopped = show(&mut requests, all.as_bytes(), size);
                assert_eq!(stopped, (before.len(), Some(Stop::Head(refusal))), "{all:?} by {size}");
                assert_eq!(requests.heads(), usize::from(!before.is_empty()));
            }
        }
    }
}

#[test]
fn a_body_without_a_clear_end_stops_where_that_is_seen() {
    let all = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n";
    let good = all.find("\nhello").unwrap();
    for size in 1..all.len() {
        assert_eq!(show(&mut Requests::new(10), all.as_bytes(), size), (good, Some(Stop::Body)), "{size}");
    }
}

#[test]
fn what_cannot_become_a_head_is_told_before_its_end() {
    for (start, refusal) in [
        ("GET /\r\n", Refusal::RequestLine),
        ("GET / HTTP/3\r\n", Refusal::Version),
        ("\u{16}\u{3}\u{1}\u{2}", Refusal::RequestLine),
        (" GET", Refusal::RequestLine),
        ("\r\n{\"json\"", Refusal::RequestLine),
        ("\0", Refusal::RequestLine),
    ] {
        let stopped = show(&mut Requests::new(10), start.as_bytes(), 1);
        assert!(
            matches!(&stopped, (0, Some(Stop::Head(told))) if *told == refusal),
            "{start:?}: {stopped:?}"
        );
    }
}

#[test]
fn heads_have_a_largest_size() {
    let head = |size: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nb: ";
        format!("{start}{}\r\n\r\n", "c".repeat(size - start.len() - 4))
    };
    let line = format!("GET /{}", "a".repeat(MAX_HEAD));
    for (bytes, stop) in [
        (head(MAX_HEAD), None),
        (head(MAX_HEAD + 1), Some(Refusal::HeadTooLarge)),
        (head(2 * MAX_HEAD), Some(Refusal::HeadTooLarge)),
        (line, Some(Refusal::LineTooLong)),
        ("\r\n".repeat(MAX_HEAD), Some(Refusal::LineTooLong)),
    ] {
        for size in [1_000, 4_096, bytes.len()] {
            let stopped = show(&mut Requests::new(10), bytes.as_bytes(), size);
            assert_eq!(stopped.1, stop.map(Stop::Head), "{} bytes by {size}", bytes.len());
        }
    }
}
