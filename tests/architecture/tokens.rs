//! Rust's text as tokens: names, punctuation, doc comments and strings, with the line of each.

/// A piece of Rust's text. Other comments, characters, lifetimes and numbers are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Name(String),
    /// `::`
    PathSep,
    Mark(char),
    Text(String),
    /// A line of an item's doc comment (`///`), without its marker.
    Doc(String),
    /// A line of a file's doc comment (`//!`), without its marker.
    FileDoc(String),
}

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub line: usize,
}

impl Token {
    pub fn is(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }

    pub fn name(&self) -> Option<&str> {
        match &self.kind {
            Kind::Name(name) => Some(name),
            _ => None,
        }
    }
}

/// Splits a file's text. What is no valid Rust gives tokens, too, but no promise which.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader { chars: text.chars().collect(), at: 0, line: 1 };
    let mut tokens = Vec::new();
    while reader.at < reader.chars.len() {
        let line = reader.line;
        if let Some(kind) = reader.next() {
            tokens.push(Token { kind, line });
        }
    }
    tokens
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Reader {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn take(&mut self) -> char {
        let next = self.peek(0);
        self.at += 1;
        self.line += usize::from(next == '\n');
        next
    }

    fn starts(&self, with: &str) -> bool {
        with.chars().enumerate().all(|(ahead, wanted)| self.peek(ahead) == wanted)
    }

    fn next(&mut self) -> Option<Kind> {
        let first = self.peek(0);
        match first {
            '/' if self.peek(1) == '/' => return self.line_comment(),
            '/' if self.peek(1) == '*' => self.block_comment(),
            '"' => return Some(Kind::Text(self.string())),
            '\'' => self.character_or_lifetime(),
            ':' if self.peek(1) == ':' => {
                self.at += 2;
                return Some(Kind::PathSep);
            }
            _ if first == '_' || first.is_alphabetic() => return Some(self.word()),
            _ if first.is_ascii_digit() => {
                while self.peek(0) == '_' || self.peek(0).is_alphanumeric() {
                    self.take();
                }
            }
            _ if first.is_whitespace() => drop(self.take()),
            _ => return Some(Kind::Mark(self.take())),
        }
        None
    }

    fn line_comment(&mut self) -> Option<Kind> {
        let of_file = self.starts("//!");
        let of_item = self.starts("///") && !self.starts("////");
        self.at += if of_file || of_item { 3 } else { 2 };
        let mut text = String::new();
        while self.at < self.chars.len() && self.peek(0) != '\n' {
            text.push(self.take());
        }
        let text = text.trim().to_owned();
        if of_file { Some(Kind::FileDoc(text)) } else { of_item.then_some(Kind::Doc(text)) }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            if self.starts("/*") {
                (self.at, depth) = (self.at + 2, depth + 1);
            } else if self.starts("*/") {
                (self.at, depth) = (self.at + 2, depth - 1);
                if depth == 0 {
                    return;
                }
            } else {
                self.take();
            }
        }
    }

    fn string(&mut self) -> String {
        self.take();
        let mut text = String::new();
        while self.at < self.chars.len() {
            match self.take() {
                '"' => break,
                '\\' => drop(self.take()),
                other => text.push(other),
            }
        }
        text
    }

    fn raw_string(&mut self) -> String {
        let mut hashes = 0;
        while self.peek(0) == '#' {
            (self.at, hashes) = (self.at + 1, hashes + 1);
        }
        self.take();
        let end = format!("\"{}", "#".repeat(hashes));
        let mut text = String::new();
        while self.at < self.chars.len() && !self.starts(&end) {
            text.push(self.take());
        }
        self.at += end.len();
        text
    }

    fn character_or_lifetime(&mut self) {
        self.take();
        if self.peek(0) == '\\' {
            self.at += 2;
            while self.at < self.chars.len() && self.take() != '\'' {}
        } else if self.peek(1) == '\'' {
            self.take();
            self.take();
        } else {
            while self.peek(0) == '_' || self.peek(0).is_alphanumeric() {
                self.take();
            }
        }
    }

    fn word(&mut self) -> Kind {
        let mut word = String::new();
        while self.peek(0) == '_' || self.peek(0).is_alphanumeric() {
            word.push(self.take());
        }
        let hashes = (0..).take_while(|ahead| self.peek(*ahead) == '#').count();
        match word.as_str() {
            "r" | "br" | "cr" if self.peek(hashes) == '"' => Kind::Text(self.raw_string()),
            "b" | "c" if self.peek(0) == '"' => Kind::Text(self.string()),
            "r" if hashes == 1 => {
                self.take();
                self.word()
            }
            _ => Kind::Name(word),
        }
    }
}
