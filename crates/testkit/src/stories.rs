//! What many stories do, in one word each.

use serde_json::{Value, json};

use crate::{Client, Fields as _, User, WebhookSink};

impl Client {
    /// Creates a task with these fields and gives it.
    pub async fn task(&self, user: &User, fields: Value) -> Value {
        self.post("/v1/tasks", fields).as_(user).expect(201).await.json()
    }

    /// Moves a task and gives it.
    pub async fn move_task(&self, user: &User, task: &Value, transition: Value) -> Value {
        let path = format!("/v1/tasks/{}/transitions", task.text("id"));
        self.post(&path, transition).as_(user).expect(200).await.json()
    }

    /// Makes a project with these fields and gives it.
    pub async fn project(&self, user: &User, fields: Value) -> Value {
        self.post("/v1/projects", fields).as_(user).expect(201).await.json()
    }

    /// Adds somebody to a project of the owner's and gives the member.
    pub async fn member(&self, owner: &User, project: &Value, user: &User, role: &str) -> Value {
        let path = format!("/v1/projects/{}/members", project.text("id"));
        self.post(&path, json!({"user_id": user.id, "role": role})).as_(owner).expect(201).await.json()
    }

    /// Makes a webhook that sends these types to `/hook` of the sink, and gives it with its secret.
    pub async fn hook(&self, user: &User, sink: &WebhookSink, event_types: &[&str]) -> Value {
        let hook = json!({"url": sink.url("/hook"), "event_types": event_types});
        self.post("/v1/webhooks", hook).as_(user).expect(201).await.json()
    }

    /// What a GET gives as JSON.
    pub async fn read(&self, user: &User, path: &str) -> Value {
        self.get(path).as_(user).expect(200).await.json()
    }

    /// The items of a page.
    pub async fn list(&self, user: &User, path: &str) -> Vec<Value> {
        self.read(user, path).await.list("data").to_vec()
    }

    /// The items of all pages from the first, by their cursors. `path` has a query already.
    pub async fn all_pages(&self, user: &User, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.read(user, &format!("{path}{cursor}")).await;
            items.extend_from_slice(page.list("data"));
            let Some(next) = page["page"]["next_cursor"].as_str() else { return items };
            cursor = format!("&cursor={next}");
        }
    }

    /// All events that the user may see, in order.
    pub async fn events(&self, user: &User) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        let mut after = 0;
        loop {
            let page = self.read(user, &format!("/v1/events?limit=200&after={after}")).await;
            events.extend_from_slice(page.list("data"));
            let next =
                page["page"].text("next_cursor").parse().unwrap_or_else(|error| panic!("{error}: {page}"));
            if next == after {
                return events;
            }
            after = next;
        }
    }
}
