//! Scratch.
use taskpost_testkit::*;
use std::time::Instant;
both!(phases);
async fn phases(backend: Backend) {
    for _ in 0..3 {
    let t = Instant::now();
    let app = TestApp::start(backend).await;
    let a = t.elapsed(); let t = Instant::now();
    app.user("Ada").await;
    let b = t.elapsed(); let t = Instant::now();
    app.user("Bob").await;
    let c = t.elapsed(); let t = Instant::now();
    app.drain().await;
    let d = t.elapsed(); let t = Instant::now();
    app.finish().await;
    println!("{backend:?} start {a:?} user {b:?} user {c:?} drain {d:?} finish {:?}", t.elapsed());
    }
}
