//! Which endpoints get an event: each that asked for its type, whose owner may see it.

use std::collections::{BTreeSet, HashMap};

use taskpost_common::{
    Clock, EndpointId, Envelope, Event, ProjectId,
    delivery::WebhookPayload,
    event::Topic,
    notification::{Channel, Class},
};
use taskpost_store::{
    MAX_BATCH, Session, Tx,
    deliveries::{self, NewDelivery},
    endpoints::{self, Endpoint},
    projects::{self, Readers},
};

use crate::{Applied, ApplyError, Decoded, Group};

/// The group that makes deliveries to endpoints.
#[derive(Debug)]
pub struct Webhooks {
    clock: Clock,
}

impl Webhooks {
    /// With this clock.
    pub const fn new(clock: Clock) -> Self {
        Self { clock }
    }
}

impl Group for Webhooks {
    const NAME: &'static str = "webhooks";
    /// Which event goes to which endpoint, in the order of events. The bodies are made chunk by chunk when they are
    /// stored, for a batch of events times all endpoints may be large.
    type Plan = Vec<(usize, EndpointId)>;

    fn wants(&self, _envelope: &Envelope) -> bool {
        true
    }

    async fn plan(&self, reader: &mut Session, events: &[Decoded]) -> Result<Option<Self::Plan>, ApplyError> {
        let endpoints = endpoints::enabled(reader).await?;
        let mut plan = Vec::new();
        if endpoints.is_empty() {
            return Ok(None);
        }
        let ids: BTreeSet<_> = events.iter().filter_map(|decoded| decoded.envelope.project_id).collect();
        // Admins see everything.
        let owners: BTreeSet<_> =
            endpoints.iter().filter(|(_, admin)| !admin).map(|(endpoint, _)| endpoint.user_id).collect();
        let projects = projects::readers_among(reader, &Vec::from_iter(ids), &Vec::from_iter(owners)).await?;
        for (index, decoded) in events.iter().enumerate() {
            let gets = |(endpoint, admin): &&(Endpoint, bool)| gets(endpoint, *admin, decoded, &projects);
            plan.extend(endpoints.iter().filter(gets).map(|(endpoint, _)| (index, endpoint.id)));
        }
        Ok((!plan.is_empty()).then_some(plan))
    }

    async fn apply(&self, tx: &mut Tx, events: &[Decoded], plan: Self::Plan) -> Result<Applied, ApplyError> {
        let mut made = 0;
        for targets in plan.chunks(MAX_BATCH) {
            let mut deliveries = Vec::with_capacity(targets.len());
            for of_one_event in targets.chunk_by(|(one, _), (other, _)| one == other) {
                if let Some(decoded) = of_one_event.first().and_then(|(index, _)| events.get(*index)) {
                    self.address(decoded, of_one_event, &mut deliveries)?;
                }
            }
            made += deliveries::insert(tx, &deliveries, self.clock.now()).await?;
        }
        Ok(Applied { deliveries: made > 0, events: false })
    }
}

impl Webhooks {
    /// Adds a delivery of the event to each target.
    fn address(
        &self,
        decoded: &Decoded,
        targets: &[(usize, EndpointId)],
        deliveries: &mut Vec<NewDelivery>,
    ) -> Result<(), ApplyError> {
        let refused =
            |error: serde_json::Error| ApplyError::Refused(format!("the event is no CloudEvent: {error}"));
        let event = decoded.envelope.to_cloudevent().map_err(refused)?;
        let body = serde_json::to_string(&event).map_err(refused)?;
        for &(_, endpoint_id) in targets {
            let payload = WebhookPayload { endpoint_id, body: body.clone(), event_id: decoded.envelope.id };
            deliveries.push(NewDelivery {
                id: self.clock.id(),
                channel: Channel::Webhook,
                class: route(&decoded.event).class,
                event_id: decoded.envelope.id,
                user_id: None,
                endpoint_id: Some(endpoint_id),
                notification_id: None,
                payload: serde_json::to_string(&payload).map_err(refused)?,
                traceparent: decoded.traceparent(),
                due_at: self.clock.now(),
            });
        }
        Ok(())
    }
}

fn gets(endpoint: &Endpoint, admin: bool, decoded: &Decoded, projects: &HashMap<ProjectId, Readers>) -> bool {
    let envelope = &decoded.envelope;
    let route = route(&decoded.event);
    let about_itself = route.about == Some(endpoint.id);
    let in_project = endpoint.project_id.is_none_or(|project| envelope.project_id == Some(project));
    // A new endpoint gets what happens from now on, however far behind the group is.
    let since_it_is_there = envelope.at >= endpoint.created_at;
    in_project
        && since_it_is_there
        && !about_itself
        && (admin || sees(endpoint, envelope, route.told, projects))
        && asks_for(&endpoint.event_types, &decoded.event)
}

/// What an owner sees who is no admin: what they did, what happens in projects that they may read, outside of
/// projects what is theirs, and that they came into a project or went.
fn sees(
    endpoint: &Endpoint,
    envelope: &Envelope,
    told: Told,
    projects: &HashMap<ProjectId, Readers>,
) -> bool {
    let owner = Some(endpoint.user_id);
    let concerned = match (envelope.project_id, told) {
        (None, _) => envelope.owner_id == owner || envelope.assignee_id == owner,
        (Some(_), Told::Member) => envelope.assignee_id == owner,
        (Some(_), Told::Readers) => false,
    };
    let readers = envelope.project_id.and_then(|project| projects.get(&project));
    let may_read = readers.is_some_and(|readers| readers.may_read(endpoint.user_id));
    envelope.actor_id == owner || concerned || may_read
}

/// An exact type, a family as `task.*`, or `*`, which leaves out what became of deliveries and endpoints: those must
/// be asked for by name.
fn asks_for(types: &[String], event: &Event) -> bool {
    let name = event.type_name();
    types.iter().any(|wanted| match wanted.strip_suffix('*') {
        Some("") => event.topic() != Topic::Delivery,
        Some(family) => family.ends_with('.') && name.starts_with(family),
        None => wanted == name,
    })
}

/// How an event travels.
struct Route {
    class: Class,
    /// The endpoint it tells of, which must not be told: it would fail at that as well. That failures to tell others
    /// of a failure end there is the store's care, which records no event for them.
    about: Option<EndpointId>,
    /// Who is told of it in a project.
    told: Told,
}

/// Who is told of an event in a project.
#[derive(Clone, Copy)]
enum Told {
    /// Who may read the project now.
    Readers,
    /// These, and the member it is about, who may be out by now.
    Member,
}

/// All are of the normal class, because nobody knows what a receiver does with them; what became of other deliveries
/// waits until those are out.
fn route(event: &Event) -> Route {
    let (class, told) = (Class::Normal, Told::Readers);
    match event {
        Event::UserRegistered(_)
        | Event::UserLoggedIn(_)
        | Event::UserLoggedOut(_)
        | Event::UserUpdated(_)
        | Event::UserRoleChanged(_)
        | Event::UserDisabled(_)
        | Event::UserPasswordChanged(_)
        | Event::ProjectCreated(_)
        | Event::ProjectUpdated(_)
        | Event::ProjectDeleted(_)
        | Event::TaskCreated(_)
        | Event::TaskUpdated(_)
        | Event::TaskDeleted(_)
        | Event::TaskAssigned(_)
        | Event::TaskUnassigned(_)
        | Event::TaskStatusChanged(_)
        | Event::TaskCompleted(_)
        | Event::TaskReopened(_)
        | Event::TaskDueSoon(_)
        | Event::TaskOverdue(_)
        | Event::CommentCreated(_)
        | Event::CommentUpdated(_)
        | Event::CommentDeleted(_)
        | Event::PostCreated(_)
        | Event::PostUpdated(_)
        | Event::PostPublished(_)
        | Event::PostUnpublished(_)
        | Event::PostDeleted(_) => Route { class, about: None, told },
        Event::ProjectMemberAdded(_)
        | Event::ProjectMemberRemoved(_)
        | Event::ProjectMemberRoleChanged(_) => Route { class, about: None, told: Told::Member },
        Event::DeliveryExhausted(data) => Route { class: Class::Low, about: data.endpoint_id, told },
        Event::EndpointDisabled(data) => Route { class: Class::Low, about: Some(data.endpoint_id), told },
    }
}

#[cfg(test)]
mod tests {
    use taskpost_common::{UserId, event::EndpointDisabled, event::UserData, event::UserEvent, user::Roles};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_star_asks_for_all_but_the_fate_of_deliveries() {
        let user = UserData { id: UserId(Uuid::nil()), roles: Roles::default() };
        let registered = Event::UserRegistered(UserEvent { user });
        let disabled = Event::EndpointDisabled(EndpointDisabled {
            endpoint_id: EndpointId(Uuid::nil()),
            reason: String::new(),
        });
        for (wanted, gets_registered, gets_disabled) in [
            (vec!["*"], true, false),
            (vec!["user.*"], true, false),
            (vec!["user.registered"], true, false),
            (vec!["endpoint.*"], false, true),
            (vec!["*", "endpoint.disabled"], true, true),
            (vec!["user", "user*", "user.registered.*", "use.*", ""], false, false),
            (vec![], false, false),
        ] {
            let types: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(asks_for(&types, &registered), gets_registered, "{wanted:?}");
            assert_eq!(asks_for(&types, &disabled), gets_disabled, "{wanted:?}");
        }
    }
}
