//! What one file says: its modules, its imports and paths, its types, and its public doc comments.

use std::collections::{BTreeMap, BTreeSet};

use crate::tokens::{Kind, Token, tokens};

/// A path with the module that it is written in, and the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The module inside this file (`mod owner { … }`); empty for the file itself.
    pub inside: Vec<String>,
    pub segments: Vec<String>,
    pub line: usize,
}

/// A module that lies in another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    pub name: String,
    /// `#[path = "…"]`
    pub file: Option<String>,
    /// Compiled for tests only.
    pub is_test: bool,
}

/// A file, read. What is compiled for tests only (`#[cfg(test)]`) is left out but for its module declarations.
#[derive(Debug, Default)]
pub struct Source {
    pub modules: Vec<Declaration>,
    /// Names that `use` brings into the file's own module, and what they stand for.
    pub bindings: BTreeMap<String, Path>,
    /// `use path::*`
    pub globs: Vec<Path>,
    /// Every path with at least two segments outside of `use`.
    pub paths: Vec<Path>,
    /// What `use` names, `self` and globs resolved to the module.
    pub imports: Vec<Path>,
    /// Items of the file's own module.
    pub items: BTreeSet<String>,
    /// Names of the types, at any depth of modules, with the line.
    pub types: Vec<(String, usize)>,
    /// The first line of the file's doc comment.
    pub doc: Option<(String, usize)>,
    /// The first line of each public item's doc comment.
    pub docs: Vec<(String, usize)>,
}

const TYPES: [&str; 5] = ["struct", "enum", "union", "trait", "type"];
const OTHER_ITEMS: [&str; 3] = ["fn", "const", "static"];

/// Reads a file's text.
pub fn read(text: &str) -> Source {
    let tokens = tokens(text);
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0, inside: Vec::new(), source: Source::default() };
    parser.file();
    parser.source
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    /// Open braces.
    depth: usize,
    /// Modules inside this file, and the depth of what stands in them.
    inside: Vec<(String, usize)>,
    source: Source,
}

impl Parser<'_> {
    fn token(&self, at: usize) -> Option<&Token> {
        self.tokens.get(at)
    }

    fn name(&self, at: usize) -> Option<&str> {
        self.token(at).and_then(Token::name)
    }

    fn is(&self, at: usize, mark: char) -> bool {
        self.token(at).is_some_and(|token| token.is(mark))
    }

    fn line(&self) -> usize {
        self.token(self.at).map_or(0, |token| token.line)
    }

    fn modules(&self) -> Vec<String> {
        self.inside.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Whether items may stand here: not inside a function, a type or an `impl`.
    fn at_item_level(&self) -> bool {
        self.depth == self.inside.last().map_or(0, |(_, depth)| *depth)
    }

    fn file(&mut self) {
        let mut attributes = Attributes::default();
        while let Some(token) = self.token(self.at) {
            match &token.kind {
                Kind::FileDoc(text) => {
                    self.source.doc.get_or_insert((text.clone(), token.line));
                    self.at += 1;
                    continue;
                }
                Kind::Doc(text) => {
                    attributes.doc.get_or_insert((text.clone(), token.line));
                    self.at += 1;
                    continue;
                }
                Kind::Mark('#') => {
                    self.attribute(&mut attributes);
                    continue;
                }
                _ => {}
            }
            if self.name(self.at) == Some("pub") {
                // Attributes stay: they are the item's that follows.
                self.visibility();
                let doc = attributes.doc.take().filter(|_| !attributes.is_test);
                self.source.docs.extend(doc);
                continue;
            }
            if attributes.is_test {
                self.test_item(&attributes);
            } else {
                self.one(&attributes);
            }
            attributes = Attributes::default();
        }
    }

    /// `pub`, `pub(crate)`, `pub(in crate::…)`: names no dependency.
    fn visibility(&mut self) {
        self.at += 1;
        if self.is(self.at, '(') && matches!(self.name(self.at + 1), Some("crate" | "super" | "self" | "in")) {
            while self.at < self.tokens.len() && !self.is(self.at, ')') {
                self.at += 1;
            }
            self.at += 1;
        }
    }

    /// `#[…]` or `#![…]`
    fn attribute(&mut self, attributes: &mut Attributes) {
        self.at += 1;
        self.at += usize::from(self.is(self.at, '!'));
        let (mut open, mut names, mut text) = (0, Vec::new(), None);
        while let Some(token) = self.token(self.at) {
            match &token.kind {
                Kind::Mark('[') => open += 1,
                Kind::Mark(']') => open -= 1,
                Kind::Name(name) => names.push(name.clone()),
                Kind::Text(value) => text = Some(value.clone()),
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                break;
            }
        }
        match names.first().map(String::as_str) {
            Some("path") => attributes.path = text,
            Some("cfg") if names.iter().any(|name| name == "test") && !names.iter().any(|name| name == "not") => {
                attributes.is_test = true;
            }
            _ => {}
        }
    }

    /// Steps over an item that is compiled for tests only.
    fn test_item(&mut self, attributes: &Attributes) {
        let mut open = 0_usize;
        while let Some(token) = self.token(self.at) {
            let kind = token.kind.clone();
            if open == 0 && kind == Kind::Name("mod".into()) && self.is(self.at + 2, ';') {
                self.declare(attributes);
            }
            match kind {
                Kind::Mark('{' | '(' | '[') => open += 1,
                Kind::Mark('}' | ')' | ']') if open == 0 => return,
                Kind::Mark('}' | ')' | ']') => open -= 1,
                _ => {}
            }
            self.at += 1;
            if open == 0 && matches!(kind, Kind::Mark(';' | '}')) {
                return;
            }
        }
    }

    fn declare(&mut self, attributes: &Attributes) {
        let Some(name) = self.name(self.at + 1).map(str::to_owned) else { return };
        if self.inside.is_empty() {
            self.source.items.insert(name.clone());
            let (file, is_test) = (attributes.path.clone(), attributes.is_test);
            self.source.modules.push(Declaration { name, file, is_test });
        }
    }

    fn one(&mut self, attributes: &Attributes) {
        let line = self.line();
        if self.is(self.at, '{') {
            self.depth += 1;
        } else if self.is(self.at, '}') {
            if self.inside.last().is_some_and(|(_, depth)| *depth == self.depth) {
                self.inside.pop();
            }
            self.depth = self.depth.saturating_sub(1);
        }
        let Some(name) = self.name(self.at).map(str::to_owned) else {
            self.at += 1;
            return;
        };
        let next = self.name(self.at + 1).map(str::to_owned);
        match (name.as_str(), next) {
            // `impl Trait + use<'a>` imports nothing.
            ("use", _) if !self.is(self.at + 1, '<') => {
                self.at += 1;
                self.import(&[], line);
            }
            ("mod", Some(module)) if self.at_item_level() && self.is(self.at + 2, '{') => {
                (self.at, self.depth) = (self.at + 3, self.depth + 1);
                self.inside.push((module, self.depth));
            }
            ("mod", Some(_)) if self.at_item_level() => {
                self.declare(attributes);
                self.at += 2;
            }
            (keyword, Some(item)) if self.at_item_level() && TYPES.contains(&keyword) => {
                self.source.types.push((item.clone(), line));
                self.item(item);
            }
            (keyword, Some(item)) if self.at_item_level() && OTHER_ITEMS.contains(&keyword) && item != "fn" => {
                self.item(item);
            }
            _ => self.path(line),
        }
    }

    fn item(&mut self, name: String) {
        if self.inside.is_empty() {
            self.source.items.insert(name);
        }
        self.at += 2;
    }

    /// A name, and what `::` adds to it.
    fn path(&mut self, line: usize) {
        let follows = self.at > 0 && self.token(self.at - 1).is_some_and(|token| token.kind == Kind::PathSep);
        let mut segments = Vec::new();
        while let Some(name) = self.name(self.at) {
            segments.push(name.to_owned());
            self.at += 1;
            if self.token(self.at).is_none_or(|token| token.kind != Kind::PathSep) {
                break;
            }
            self.at += 1;
        }
        if !follows && segments.len() > 1 {
            self.source.paths.push(Path { inside: self.modules(), segments, line });
        }
    }

    /// A tree of imports behind `before`, up to the `,`, `}` or `;` that ends it.
    fn import(&mut self, before: &[String], line: usize) {
        let mut segments = before.to_vec();
        while let Some(token) = self.token(self.at).cloned() {
            self.at += 1;
            match token.kind {
                // `use ::name` is another crate's.
                Kind::PathSep if segments.is_empty() => segments.push("::".into()),
                Kind::Name(name) if name == "as" => {
                    let bound = self.name(self.at).unwrap_or("_").to_owned();
                    self.at += 1;
                    return self.bind(bound, segments, line);
                }
                Kind::Name(name) if name == "self" && !segments.is_empty() => {}
                Kind::Name(name) => segments.push(name),
                Kind::Mark('*') => {
                    let path = Path { inside: self.modules(), segments, line };
                    self.source.imports.push(path.clone());
                    return self.source.globs.push(path);
                }
                Kind::Mark('{') => {
                    while !self.is(self.at, '}') && self.at < self.tokens.len() {
                        self.import(&segments, line);
                        self.at += usize::from(self.is(self.at, ','));
                    }
                    self.at += 1;
                    return;
                }
                Kind::Mark(',' | '}' | ';') => {
                    self.at -= 1;
                    break;
                }
                _ => {}
            }
        }
        if let Some(last) = segments.last().cloned() {
            self.bind(last, segments, line);
        }
    }

    fn bind(&mut self, name: String, segments: Vec<String>, line: usize) {
        let path = Path { inside: self.modules(), segments, line };
        self.source.imports.push(path.clone());
        if self.inside.is_empty() && name != "_" {
            self.source.bindings.insert(name, path);
        }
    }
}

/// What stands before an item.
#[derive(Debug, Clone, Default)]
struct Attributes {
    doc: Option<(String, usize)>,
    path: Option<String>,
    is_test: bool,
}
