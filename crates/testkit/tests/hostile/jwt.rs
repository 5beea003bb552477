//! JWT: forgeries, most of them signed with the right key. Every one gets the very answer that no token gets.

use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Sha256, Sha384, Sha512};
use taskpost_common::Clock;
use taskpost_testkit::{Backend, TestApp, User, both};

use crate::{case::Case, judge, row::Row};

both!(row);

const FIRST: &str = "the first secret that signs what is issued";
const SECOND: &str = "the second secret that is known from before";
const OLD: &str = "an old secret that has left the list since";
/// What shows nothing to whoever has no good token.
const DOOR: &str = "/v1/tasks";

async fn row(backend: Backend) {
    // It stands still, so that what is one second too old or too new stays so.
    let clock = Clock::manual(Clock::system().now());
    let app = TestApp::start(backend).with("JWT_SECRET", format!("{FIRST}, {SECOND}")).clock(clock.clone());
    let mut row = Row::start("JWT", app).await;
    let (admin, member) = (row.app.user("Ada").await, row.app.user("Bob").await);
    let forge = Forge::new(&member, &clock);
    let nobody = row.ask(&Case::new("GET", DOOR, "no token").expect(&[401])).await;
    let nobody = judge::anonymous(&nobody);
    let left = row.app.login(&member).await;
    row.app.post("/v1/auth/logout", None).as_(&left).expect(204).await;
    let mut tokens = forge.headers();
    tokens.extend(forge.claims());
    tokens.extend(forge.keys(&admin));
    tokens.extend(forge.shapes());
    tokens.push(("token after logout".to_owned(), left.token));
    tokens.push(("refresh token".to_owned(), member.refresh_token.clone()));
    let forged = tokens.into_iter().map(|(name, token)| Case::new("GET", DOOR, name).token(&token));
    let refused = forged.chain(carriers(&member.token));
    row.run(refused.map(|case| {
        let nobody = nobody.clone();
        case.expect(&[401]).check(move |answer| {
            if answer.header("www-authenticate") != Some("Bearer") {
                return Err(format!("WWW-Authenticate is missing: {}", answer.head));
            }
            let said = judge::anonymous(answer);
            if said == nobody { Ok(()) } else { Err(format!("another answer than without a token: {said}")) }
        })
    }))
    .await;
    let nul = Case::new("GET", DOOR, "NUL behind the token")
        .header("authorization", format!("Bearer {}\0", member.token));
    row.run([nul]).await;
    row.run(accepted(&forge, &member)).await;
    for (name, token) in forge.elevations() {
        let door = "/v1/admin/dead-letters";
        row.run([Case::new("GET", door, format!("{name} at {door}")).token(&token).expect(&[401])]).await;
    }
    row.end(110).await;
}

/// What the other cases would be refused for, if it were the forging that is wrong.
fn accepted(forge: &Forge, member: &User) -> Vec<Case> {
    let case =
        |name: &str, token: &str| Case::new("GET", DOOR, format!("good: {name}")).token(token).expect(&[200]);
    vec![
        case("as issued", &member.token),
        case("made anew", &forge.with(|_| {})),
        case("with one claim more", &forge.with(|claims| claims["extra"] = json!(1))),
        case("signed with the second secret", &Forge::sign(SECOND, &forge.header, &forge.payload)),
        case(
            "10 s past its end, as clocks differ",
            &forge.with(|claims| claims["exp"] = json!(forge.now - 10)),
        ),
        Case::new("GET", DOOR, "good: bearer in small letters")
            .header("authorization", format!("bearer {}", member.token))
            .expect(&[200]),
        Case::new("GET", DOOR, "two blanks before the token")
            .header("authorization", format!("Bearer  {}", member.token))
            .expect(&[200, 401]),
    ]
}

type Tokens = Vec<(String, String)>;

/// Makes tokens out of one that was issued.
struct Forge {
    /// As they stand in the token.
    header: String,
    payload: String,
    signature: String,
    claims: Value,
    now: i64,
}

impl Forge {
    fn new(user: &User, clock: &Clock) -> Self {
        let parts: Vec<&str> = user.token.split('.').collect();
        let payload = URL_SAFE_NO_PAD.decode(parts[1]).expect("a payload in Base64");
        Self {
            header: parts[0].to_owned(),
            payload: parts[1].to_owned(),
            signature: parts[2].to_owned(),
            claims: serde_json::from_slice(&payload).expect("claims"),
            now: clock.now().timestamp(),
        }
    }

    fn sign(secret: &str, header: &str, payload: &str) -> String {
        let signed = format!("{header}.{payload}");
        let signature = mac::<Hmac<Sha256>>(secret.as_bytes(), &signed);
        format!("{signed}.{signature}")
    }

    /// With the right key, and these claims instead.
    fn with(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims.clone();
        change(&mut claims);
        Self::sign(FIRST, &self.header, &encode(&claims.to_string()))
    }

    /// With the right key, and this header instead.
    fn headed(&self, header: &str) -> String {
        Self::sign(FIRST, &encode(header), &self.payload)
    }

    /// What is said of the signature: another algorithm, another key, a place to find one.
    fn headers(&self) -> Tokens {
        let mut tokens = Vec::new();
        for none in ["none", "None", "nOnE", "NONE"] {
            let header = encode(&json!({"alg": none, "typ": "at+jwt"}).to_string());
            tokens.push((format!("alg {none}, no signature"), format!("{header}.{}.", self.payload)));
            tokens.push((format!("alg {none}, signed"), Self::sign(FIRST, &header, &self.payload)));
        }
        for (name, alg) in [("HS384", 384), ("HS512", 512)] {
            let signed =
                format!("{}.{}", encode(&format!("{{\"typ\":\"at+jwt\",\"alg\":\"{name}\"}}")), self.payload);
            let signature = match alg {
                384 => mac::<Hmac<Sha384>>(FIRST.as_bytes(), &signed),
                _ => mac::<Hmac<Sha512>>(FIRST.as_bytes(), &signed),
            };
            tokens.push((format!("{name} with the right key"), format!("{signed}.{signature}")));
        }
        let jwk = json!({"kty": "oct", "k": encode("attacker")});
        let long = "k".repeat(2_500);
        for (name, part) in [
            ("RS256", json!({"alg": "RS256"})),
            ("ES256", json!({"alg": "ES256"})),
            ("PS256", json!({"alg": "PS256"})),
            ("EdDSA", json!({"alg": "EdDSA"})),
            ("hs256 in small letters", json!({"alg": "hs256"})),
            ("alg of a number", json!({"alg": 256})),
            ("alg of null", json!({"alg": null})),
            ("kid", json!({"kid": "1"})),
            ("kid of 2,500 letters", json!({"kid": long})),
            ("jku", json!({"jku": "http://127.0.0.1:9/keys"})),
            ("x5u", json!({"x5u": "http://127.0.0.1:9/certificate"})),
            ("x5c", json!({"x5c": ["MIIB"]})),
            ("jwk", json!({"jwk": jwk})),
            ("crit", json!({"crit": ["exp"]})),
            ("crit b64", json!({"crit": ["b64"], "b64": false})),
            ("b64 false", json!({"b64": false})),
            ("zip", json!({"zip": "DEF"})),
            ("cty JWT", json!({"cty": "JWT"})),
            ("typ JWT", json!({"typ": "JWT"})),
            ("typ of a refresh token", json!({"typ": "rt+jwt"})),
            ("typ null", json!({"typ": null})),
        ] {
            let mut header = json!({"typ": "at+jwt", "alg": "HS256"});
            if let (Some(header), Some(part)) = (header.as_object_mut(), part.as_object()) {
                header.extend(part.clone());
            }
            tokens.push((format!("header: {name}"), self.headed(&header.to_string())));
        }
        for (name, header) in [
            ("no typ", r#"{"alg":"HS256"}"#),
            ("no alg", r#"{"typ":"at+jwt"}"#),
            ("two algs", r#"{"typ":"at+jwt","alg":"HS256","alg":"none"}"#),
            ("an array", r#"["HS256"]"#),
            ("no JSON", "HS256"),
            ("empty", ""),
        ] {
            tokens.push((format!("header: {name}"), self.headed(header)));
        }
        for (kid, secret) in [
            ("../../../../dev/null", ""),
            ("x' UNION SELECT 'attacker", "attacker"),
            ("/proc/self/environ", ""),
        ] {
            let header = encode(&json!({"typ": "at+jwt", "alg": "HS256", "kid": kid}).to_string());
            tokens.push((format!("kid {kid}"), Self::sign(secret, &header, &self.payload)));
        }
        let attacker = encode(&json!({"typ": "at+jwt", "alg": "HS256", "jwk": jwk}).to_string());
        tokens.push((
            "signed with the jwk it brings".to_owned(),
            Self::sign("attacker", &attacker, &self.payload),
        ));
        tokens
    }

    /// Signed as ours are, but saying what ours do not say. An unknown `sid` is not among them: only sessions that have
    /// ended are remembered, and whoever holds the key can log anybody in anyway.
    fn claims(&self) -> Tokens {
        let now = self.now;
        let mut tokens = Vec::new();
        for name in ["sub", "sid", "roles", "iss", "aud", "iat", "nbf", "exp"] {
            let without = |claims: &mut Value| {
                claims.as_object_mut().expect("claims").remove(name);
            };
            tokens.push((format!("no {name}"), self.with(without)));
            tokens.push((format!("{name} null"), self.with(|claims| claims[name] = Value::Null)));
        }
        for (name, value) in [
            ("iss", json!("evil")),
            ("iss", json!(["taskpost"])),
            ("iss", json!("")),
            ("aud", json!("evil")),
            ("aud", json!(["evil", "taskpost"])),
            ("aud", json!("")),
            ("exp", json!((now + 600).to_string())),
            ("exp", json!(1e30)),
            ("exp", json!(-1)),
            ("exp", json!(0)),
            ("exp", json!(now - 61)),
            ("exp", json!(true)),
            ("nbf", json!(now + 61)),
            ("nbf", json!("0")),
            ("nbf", json!(1e30)),
            ("iat", json!(now + 3_600)),
            ("iat", json!("now")),
            ("sub", json!("admin")),
            ("sub", json!("' OR 1=1--")),
            ("sub", json!(1)),
            ("sub", json!("")),
            ("sub", json!([self.claims["sub"]])),
            ("sid", json!("1")),
            ("sid", json!("")),
            ("roles", json!("admin")),
            ("roles", json!({"admin": true})),
            ("roles", json!(["root"])),
            ("roles", json!([1])),
        ] {
            tokens.push((format!("{name} {value}"), self.with(|claims| claims[name] = value)));
        }
        let text = self.claims.to_string();
        for (name, payload) in [
            (
                "payload with a claim twice",
                text.replacen('{', "{\"sub\":\"01920000-0000-7000-8000-000000000001\",", 1),
            ),
            ("payload of an array", format!("[{text}]")),
            ("payload cut short", text[..text.len() - 1].to_owned()),
            ("payload of null", "null".to_owned()),
            ("no payload", String::new()),
        ] {
            tokens.push((name.to_owned(), Self::sign(FIRST, &self.header, &encode(&payload))));
        }
        tokens.push(("9 KB".to_owned(), self.with(|claims| claims["extra"] = json!("x".repeat(7_000)))));
        tokens
    }

    /// Signed with other keys.
    fn keys(&self, admin: &User) -> Tokens {
        let mut tokens = self.elevations();
        for (name, secret) in
            [("no key", ""), ("a guess", "secret"), ("an old secret", OLD), ("half the secret", &FIRST[..20])]
        {
            tokens.push((format!("signed with {name}"), Self::sign(secret, &self.header, &self.payload)));
        }
        let both = format!("{FIRST}, {SECOND}");
        tokens
            .push(("signed with the whole list".to_owned(), Self::sign(&both, &self.header, &self.payload)));
        let theirs = admin.token.rsplit('.').next().unwrap_or_default();
        tokens.push(("another's signature".to_owned(), format!("{}.{}.{theirs}", self.header, self.payload)));
        tokens
    }

    /// A role more, by somebody who has no key of ours.
    fn elevations(&self) -> Tokens {
        let mut claims = self.claims.clone();
        claims["roles"] = json!(["admin"]);
        let payload = encode(&claims.to_string());
        vec![
            ("elevated, signed with another key".to_owned(), Self::sign(OLD, &self.header, &payload)),
            (
                "elevated, with the signature of before".to_owned(),
                format!("{}.{payload}.{}", self.header, self.signature),
            ),
        ]
    }

    /// The right parts in the wrong form, and flipped bits.
    fn shapes(&self) -> Tokens {
        let Self { header, payload, signature, .. } = self;
        let mut tokens: Tokens = [
            ("empty", String::new()),
            ("one part", header.clone()),
            ("two parts", format!("{header}.{payload}")),
            ("no signature", format!("{header}.{payload}.")),
            ("four parts", format!("{header}.{payload}.{signature}.")),
            ("five parts", format!("{header}.{payload}.{signature}.{signature}.{signature}")),
            ("a dot before", format!(".{header}.{payload}.{signature}")),
            ("parts in another order", format!("{payload}.{header}.{signature}")),
            ("padding", format!("{header}.{payload}.{signature}=")),
            ("a letter more", format!("{header}.{payload}.{signature}A")),
            ("a letter less", format!("{header}.{payload}.{}", &signature[1..])),
            ("its spare bits set", format!("{header}.{payload}.{}", spare_bits(signature))),
            (
                "the JSON form",
                json!({"protected": header, "payload": payload, "signature": signature}).to_string(),
            ),
        ]
        .map(|(name, token)| (format!("token: {name}"), token))
        .into();
        // The other alphabet of Base64 shows only in some signatures.
        let other = (0..).map(|number| self.with(|claims| claims["extra"] = json!(number)));
        let other = other
            .into_iter()
            .find(|token| token.rsplit('.').next().is_some_and(|part| part.contains(['-', '_'])));
        tokens.push((
            "token: the other alphabet".to_owned(),
            other.expect("one of many").replace('-', "+").replace('_', "/"),
        ));
        for (place, part) in [header, payload, signature].into_iter().enumerate() {
            let bytes = URL_SAFE_NO_PAD.decode(part).expect("a part in Base64");
            for at in [0, bytes.len() / 2, bytes.len() - 1] {
                for bit in [0, 5] {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= 1 << bit;
                    let mut parts = [header.clone(), payload.clone(), signature.clone()];
                    parts[place] = URL_SAFE_NO_PAD.encode(flipped);
                    tokens.push((format!("bit {bit} of byte {at} of part {place} flipped"), parts.join(".")));
                }
            }
        }
        tokens
    }
}

/// A good token, brought in a way that is none.
fn carriers(token: &str) -> Vec<Case> {
    let case = |name: &str, value: &[u8]| {
        Case::new("GET", DOOR, format!("carried: {name}")).header("authorization", value)
    };
    let basic = format!("Basic {}", STANDARD.encode(format!("ada:{token}")));
    let (head, tail) = token.split_at(40);
    vec![
        case("twice in two headers", format!("Bearer {token}").as_bytes()).token(token),
        case("in two headers, one of them Basic", basic.as_bytes()).token(token),
        case("Basic", basic.as_bytes()),
        case("Basic with the token", format!("Basic {token}").as_bytes()),
        case("Token", format!("Token {token}").as_bytes()),
        case("no scheme", token.as_bytes()),
        case("no token", b"Bearer"),
        case("a blank for a token", b"Bearer "),
        case("an empty header", b""),
        case("trailing data", format!("Bearer {token} trailing").as_bytes()),
        case("two tokens", format!("Bearer {token}, Bearer {token}").as_bytes()),
        case("a comma behind it", format!("Bearer {token},").as_bytes()),
        case("a blank in it", format!("Bearer {head} {tail}").as_bytes()),
        case("a tab before it", format!("Bearer\t{token}").as_bytes()),
        case("quotes", format!("Bearer \"{token}\"").as_bytes()),
        case("percent-encoded", format!("Bearer {}", token.replace('.', "%2e")).as_bytes()),
        case("bearer stuck to it", format!("Bearer{token}").as_bytes()),
        case("twice Bearer", format!("Bearer Bearer {token}").as_bytes()),
        case("a colon", format!("Bearer: {token}").as_bytes()),
        case("unicode dots", format!("Bearer {}", token.replace('.', "\u{2024}")).as_bytes()),
        case("unicode behind it", format!("Bearer {token}\u{200b}").as_bytes()),
        case("bytes above 127", &[b"Bearer ", token.as_bytes(), b"\xff"].concat()),
        Case::new("GET", &format!("{DOOR}?access_token={token}"), "carried: in the query"),
        Case::new("GET", DOOR, "carried: in a cookie").header("cookie", format!("access_token={token}")),
        Case::new("GET", DOOR, "carried: in another header").header("x-access-token", token),
    ]
}

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn mac<M: Mac + KeyInit>(secret: &[u8], signed: &str) -> String {
    let mut mac = <M as KeyInit>::new_from_slice(secret).expect("HMAC takes any key");
    mac.update(signed.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// The last letter of 32 bytes in Base64 has two bits that belong to none of them.
fn spare_bits(part: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (head, last) = part.split_at(part.len() - 1);
    let value = LETTERS.iter().position(|letter| last.as_bytes() == [*letter]).expect("a letter of Base64");
    format!("{head}{}", char::from(LETTERS[value | 1]))
}
