//! Who may read projects, asked for some people at a time.

use taskpost_common::{
    UserId,
    project::{ProjectRole, Visibility},
};
use taskpost_store::{MAX_BATCH, members, notifications, projects};

use crate::{events::project, harness::Store};

both!(those_who_are_asked_about_are_told_and_no_others, an_audience_is_read_in_portions);

async fn those_who_are_asked_about_are_told_and_no_others(store: Store) {
    let (ada, bob, eve) =
        (store.user("ada").await.id, store.user("bob").await.id, store.user("eve").await.id);
    let private = project(&store, "OPS", Visibility::Private, ada).await;
    let internal = project(&store, "ALL", Visibility::Internal, ada).await;
    let mut tx = store.begin().await;
    members::add(&mut tx, store.change(), &private, bob, ProjectRole::Viewer).await.unwrap();
    tx.commit().await.unwrap();

    let mut reader = store.reader().await;
    let ids = [private.id, internal.id, store.id()];
    let found = projects::readers_among(&mut reader, &ids, &[bob, eve]).await.unwrap();
    assert_eq!(found.len(), 2, "one that is not there is left out");
    let (closed, open) = (&found[&private.id], &found[&internal.id]);
    assert_eq!(closed.members.iter().collect::<Vec<_>>(), [(&bob, &ProjectRole::Viewer)]);
    assert!(open.members.is_empty());
    let readable = [closed, open].map(|readers| [bob, eve].map(|user| readers.may_read(user)));
    assert_eq!(readable, [[true, false], [true, true]]);

    let nobody = projects::readers_among(&mut reader, &ids, &[]).await.unwrap();
    assert!(nobody.len() == 2 && nobody[&internal.id].internal && nobody[&private.id].members.is_empty());
    // More than one statement takes.
    let mut many: Vec<UserId> = (0..=MAX_BATCH).map(|_| store.id()).collect();
    many.push(ada);
    let found = projects::readers_among(&mut reader, &ids, &many).await.unwrap();
    assert_eq!(found[&private.id].members[&ada], ProjectRole::Owner);
}

async fn an_audience_is_read_in_portions(store: Store) {
    let mut people = Vec::new();
    for name in ["ada", "bob", "cleo", "dan", "eve"] {
        people.push(store.user(name).await.id);
    }
    people.sort_unstable();
    let project = project(&store, "OPS", Visibility::Internal, people[1]).await;
    let mut tx = store.begin().await;
    members::add(&mut tx, store.change(), &project, people[3], ProjectRole::Viewer).await.unwrap();
    tx.commit().await.unwrap();
    for (of, expected) in [(None, people.clone()), (Some(project.id), vec![people[1], people[3]])] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let mut reader = store.reader().await;
            let some = notifications::audience(&mut reader, of, after, 2).await.unwrap();
            found.extend(some.iter().map(|(user, _)| *user));
            after = found.last().copied();
            if some.len() < 2 {
                break;
            }
        }
        assert_eq!(found, expected, "{of:?}");
    }
}
