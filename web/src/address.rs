//! E-mail addresses, in every script.
//!
//! An address of ASCII is kept as it was typed. Any other is kept in one normal form, so that it is one however it was
//! typed: its domain in Unicode (UTS 46), where `xn--mller-kva.example` is `müller.example`, its local part composed
//! (NFC) and in lower case.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization;

use crate::text::is_mark;

/// A valid address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    ascii: Option<String>,
}

const WRONG: &str = "Enter an address like name@example.org.";

impl Address {
    /// Parses an address. Its ASCII part has the grammar of HTML's `<input type=email>`, so that the page and the server
    /// agree; the rest is RFC 6531's, with RFC 5321's limits on length and with a dot in the domain.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let address = raw.trim();
        if address.is_empty() {
            return Err("Enter an e-mail address.");
        }
        let (local, domain) = address.split_once('@').ok_or(WRONG)?;
        let local = parse_local(local).ok_or(WRONG)?;
        let (domain, ascii) = parse_domain(domain).ok_or(WRONG)?;
        let text = format!("{local}@{domain}");
        let ascii = ascii.map(|domain| format!("{local}@{domain}"));
        if text.len() > 254 || ascii.as_ref().is_some_and(|ascii| ascii.len() > 254) {
            return Err(WRONG);
        }
        Ok(Self { text, ascii })
    }

    /// The address as it is kept and shown.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same address with its domain in ASCII, where that is another text: as the versions of this program kept it that
    /// knew no other.
    pub fn in_ascii(&self) -> &Option<String> {
        &self.ascii
    }
}

fn parse_local(local: &str) -> Option<String> {
    let local = if local.is_ascii() {
        local.to_owned()
    } else {
        local.nfc().collect::<String>().to_lowercase().nfc().collect()
    };
    let may_be = |c: char| match c {
        _ if c.is_ascii() => c.is_ascii_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c),
        // Letters that show as nothing.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => false,
        _ => c.is_alphanumeric() || is_mark(c),
    };
    let begins_well = local.chars().next().is_some_and(|c| !is_mark(c));
    (begins_well && local.len() <= 64 && local.chars().all(may_be)).then_some(local)
}

/// Parses a domain: as it is kept, and in ASCII where that is another text.
fn parse_domain(domain: &str) -> Option<(String, Option<String>)> {
    let is_punycode = |label: &str| label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--"));
    if domain.is_ascii() && !domain.split('.').any(is_punycode) {
        return is_host(domain).then(|| (domain.to_owned(), None));
    }
    let names = Uts46::new();
    let ascii =
        names.to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::Check, DnsLength::Verify).ok()?.into_owned();
    let (unicode, sound) = names.to_unicode(ascii.as_bytes(), AsciiDenyList::STD3, Hyphens::Check);
    if sound.is_err() || !is_host(&ascii) {
        return None;
    }
    let unicode = unicode.into_owned();
    Some(if unicode == ascii { (unicode, None) } else { (unicode, Some(ascii)) })
}

/// Tells whether a name of ASCII can be that of a host, with a dot in it.
fn is_host(domain: &str) -> bool {
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.contains('.') && domain.split('.').all(label_ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(raw: &str) -> Option<String> {
        Address::parse(raw).ok().map(|address| address.as_str().to_owned())
    }

    #[test]
    fn one_address_has_one_form_however_it_is_typed() {
        for typed in
            ["max@müller.example", "max@mu\u{308}ller.example", "max@MÜLLER.example", "max@XN--mller-kva.Example"]
        {
            assert_eq!(kept(typed).as_deref(), Some("max@müller.example"), "{typed}");
            assert_eq!(Address::parse(typed).unwrap().in_ascii().as_deref(), Some("max@xn--mller-kva.example"));
        }
        for typed in ["JÖRG@example.org", "jo\u{308}rg@example.org"] {
            assert_eq!(kept(typed).as_deref(), Some("jörg@example.org"), "{typed}");
        }
        assert_eq!(kept("用户@例え。jp").as_deref(), Some("用户@例え.jp"), "an ideographic full stop");
        assert_eq!(kept("Ada@Example.org").as_deref(), Some("Ada@Example.org"), "ASCII is kept as typed");
        assert_eq!(kept("a@ｅｘａｍｐｌｅ.org").as_deref(), Some("a@example.org"), "full width");
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        for wrong in [
            "a",
            "@b.c",
            "a@",
            "a@b",
            "a@b..c",
            "a@-b.c",
            "a b@c.d",
            "a@b.c\0",
            "a@b@c.d",
            "a@xn--a.example",
            "a@xn--.example",
            "a\u{200b}@b.c",
            "\u{3164}@b.c",
            "\u{301}a@b.c",
            "a@\u{200b}.c",
            "a@b\u{202e}.c",
            "a@müller",
            "a@ü..c",
            "a@-ü.c",
            "😀@b.c",
        ] {
            assert_eq!(kept(wrong), None, "{wrong:?}");
        }
        let label = "d".repeat(60);
        let domain = [label.as_str(); 4].join(".");
        assert!(kept(&format!("a@{domain}.de")).is_some());
        assert!(kept(&format!("aaaaaaaaa@{domain}.deeee")).is_none());
        assert!(kept(&format!("{}@b.cd", "é".repeat(33))).is_none(), "66 bytes before the @");
    }

    proptest! {
        #[test]
        fn ordinary_addresses_pass(email in "[a-z0-9.+-]{1,20}@[a-z0-9]{1,20}\\.[a-z]{2,6}") {
            prop_assert!(kept(&email).is_some());
        }

        #[test]
        fn what_is_kept_is_taken_again_as_it_is(email in "[a-zA-Zé\u{300}-\u{310}ΣßİА-я用]{1,9}@[a-zA-Zü\u{300}-\u{310}ΣßİА-я用。.-]{1,20}\\.(org|例)") {
            if let Some(kept_once) = kept(&email) {
                prop_assert_eq!(kept(&kept_once), Some(kept_once.clone()));
                prop_assert!(kept_once.len() <= 254 && !kept_once.contains('\0'));
            }
        }
    }
}
