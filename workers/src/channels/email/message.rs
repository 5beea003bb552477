//! What a mail looks like.

use chrono::{DateTime, Utc};
use lettre::{
    Address, Message,
    message::{Mailbox, MultiPart, SinglePart},
};
use taskpost_common::{DeliveryId, delivery::EmailPayload, notification::NotificationType};
use url::Url;

/// Stands in Message-IDs while nobody has said how this instance is reached.
const NO_HOST: &str = "taskpost.local";
/// The longest subject or name, in characters.
const LINE: usize = 200;

/// Everything a mail is made of.
pub(super) struct Letter<'a> {
    pub id: DeliveryId,
    pub from: &'a Mailbox,
    pub to: Address,
    pub name: &'a str,
    pub at: DateTime<Utc>,
    pub payload: &'a EmailPayload,
    pub public_url: Option<&'a Url>,
}

impl Letter<'_> {
    /// The same letter always gives the same bytes, so that a second try repeats the first.
    pub(super) fn compose(&self) -> Result<Message, lettre::error::Error> {
        let host = self.public_url.and_then(Url::host_str).unwrap_or(NO_HOST);
        let name = Some(line(self.name)).filter(|name| !name.is_empty());
        let parts = MultiPart::alternative()
            .boundary(format!("part-{}", self.id))
            .singlepart(SinglePart::plain(self.text()))
            .singlepart(SinglePart::html(self.html()));
        Message::builder()
            .message_id(Some(format!("<{}@{host}>", self.id)))
            .date(self.at.into())
            .from(self.from.clone())
            .to(Mailbox::new(name, self.to.clone()))
            .subject(line(&self.payload.title))
            .multipart(parts)
    }

    fn text(&self) -> String {
        let link = self.link().map(|link| format!("{link}\n\n")).unwrap_or_default();
        format!(
            "{}\n\n{}\n\n{link}-- \n{}\n",
            line(&self.payload.title),
            lines(&self.payload.body),
            because(self.payload.kind)
        )
    }

    fn html(&self) -> String {
        let title = escape(&line(&self.payload.title));
        let body = escape(&lines(&self.payload.body)).replace('\n', "<br>\n");
        let link = self
            .link()
            .map(|link| escape(&link))
            .map(|link| format!("<p><a href=\"{link}\">{link}</a></p>\n"));
        format!(
            "<!doctype html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title></head>\n<body>\n\
             <h1>{title}</h1>\n<p>{body}</p>\n{}<hr>\n<p><small>{}</small></p>\n</body></html>\n",
            link.unwrap_or_default(),
            escape(because(self.payload.kind))
        )
    }

    /// Always below our own address, whatever the path is.
    fn link(&self) -> Option<String> {
        let base = self.public_url?.as_str().trim_end_matches('/');
        Some(format!("{base}/{}", line(&self.payload.url).trim_start_matches('/')))
    }
}

const fn because(kind: NotificationType) -> &'static str {
    match kind {
        NotificationType::Welcome => "You get this because an account was made for this address.",
        NotificationType::TaskAssigned => "You get this because a task was assigned to you.",
        NotificationType::TaskUnassigned => "You get this because a task was assigned to you before.",
        NotificationType::TaskStatusChanged
        | NotificationType::TaskCompleted
        | NotificationType::TaskReopened
        | NotificationType::TaskUpdated
        | NotificationType::TaskDueSoon
        | NotificationType::TaskOverdue => "You get this because you made this task or work on it.",
        NotificationType::CommentCreated => "You get this because you made this or work on it.",
        NotificationType::Mention => "You get this because a comment names you.",
        NotificationType::PostPublished => "You get this because it is news for you.",
        NotificationType::ProjectCreated => "You get this because you made this project.",
        NotificationType::ProjectMemberAdded => "You get this because you belong to this project.",
        NotificationType::ProjectMemberRemoved | NotificationType::ProjectDeleted => {
            "You get this because you belonged to this project."
        }
        NotificationType::Security => "You get this because your account changed.",
    }
}

/// Text as one line, without anything a header could end with.
fn line(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LINE).collect();
    clean.trim().to_owned()
}

/// Text without control characters but the ends of its lines.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use taskpost_common::{NotificationId, UserId};
    use uuid::Uuid;

    use super::*;

    fn mail(name: &str, title: &str, body: &str, public_url: Option<&str>) -> String {
        let payload = EmailPayload {
            user_id: UserId(Uuid::nil()),
            kind: NotificationType::TaskAssigned,
            notification_id: NotificationId(Uuid::nil()),
            title: title.to_owned(),
            body: body.to_owned(),
            url: "/v1/tasks/1".to_owned(),
            token: None,
        };
        let public_url = public_url.map(|url| url.parse().unwrap());
        let letter = Letter {
            id: DeliveryId(Uuid::nil()),
            from: &"Taskpost <taskpost@localhost>".parse().unwrap(),
            to: "ann@example.org".parse().unwrap(),
            name,
            at: "2026-11-21T10:00:00Z".parse().unwrap(),
            payload: &payload,
            public_url: public_url.as_ref(),
        };
        let bytes = letter.compose().unwrap().formatted();
        assert_eq!(bytes, letter.compose().unwrap().formatted(), "the same letter, the same bytes");
        String::from_utf8(bytes).unwrap()
    }

    fn head(mail: &str) -> Vec<&str> {
        mail.split("\r\n\r\n").next().unwrap().split("\r\n").collect()
    }

    #[test]
    fn a_mail_says_who_what_where_and_why() {
        let mail = mail("Ann", "Task OPS-1", "Assigned to you.", Some("https://tasks.example.org/base/"));
        for line in [
            "Message-ID: <00000000-0000-0000-0000-000000000000@tasks.example.org>",
            "Date: Sat, 21 Nov 2026 10:00:00 +0000",
            "From: Taskpost <taskpost@localhost>",
            "To: Ann <ann@example.org>",
            "Subject: Task OPS-1",
        ] {
            assert!(head(&mail).contains(&line), "{line} in {mail}");
        }
        assert!(
            mail.contains("multipart/alternative")
                && mail.contains("text/plain")
                && mail.contains("text/html")
        );
        assert!(mail.contains("https://tasks.example.org/base/v1/tasks/1"), "{mail}");
        assert!(mail.contains("because a task was assigned to you"));
    }

    #[test]
    fn without_an_address_of_ours_there_is_no_link() {
        let mail = mail("", "t", "b", None);
        assert!(mail.contains("@taskpost.local>") && !mail.contains("v1/tasks"), "{mail}");
        assert!(head(&mail).contains(&"To: ann@example.org"), "{mail}");
    }

    #[test]
    fn nothing_gets_out_of_its_header() {
        for evil in [
            "a\r\nBcc: eve@example.org",
            "a\nBcc: eve@example.org",
            "a\r\n\r\nbody",
            "a\0b",
            "\u{85}Bcc: x\u{2028}",
        ] {
            let mail = mail(evil, evil, "b", None);
            assert!(!head(&mail).iter().any(|line| line.to_lowercase().starts_with("bcc")), "{mail}");
            assert_eq!(head(&mail).iter().filter(|line| line.starts_with("Subject:")).count(), 1);
            assert!(mail.contains("multipart/alternative"), "{mail}");
        }
    }

    #[test]
    fn text_is_escaped_in_html() {
        let mail = mail("n", "<b>&\"", "<script>alert('1')</script>\nnext", None);
        let html = mail.split("text/html").nth(1).unwrap();
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
        assert!(html.contains("&lt;b&gt;&amp;"), "{html}");
    }
}
