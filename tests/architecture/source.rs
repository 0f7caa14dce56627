//! A Rust source file as far as its imports go: tokens without comments and literals, and the paths they name.

/// One file, read.
pub(crate) struct Source {
    /// Relative to the repository.
    pub(crate) path: String,
    /// Its module path: `hsm`, `worker`, `token` for src/hsm/worker/token.rs.
    pub(crate) module: Vec<String>,
    /// Paths into this crate, `crate`, `super` and `self` resolved.
    pub(crate) crate_paths: Vec<Vec<String>>,
    /// Paths into other crates.
    pub(crate) foreign_paths: Vec<Vec<String>>,
    tokens: Vec<String>,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let module = module_of(path);
        let mut source = Self {
            path: path.to_owned(),
            module: module.clone(),
            crate_paths: Vec::new(),
            foreign_paths: Vec::new(),
            tokens: tokens(text),
        };
        let mut walk = Walk { tokens: &source.tokens, at: 0, module, open: Vec::new(), paths: Vec::new() };
        walk.file();
        for path in walk.paths {
            match path {
                (true, name) => source.crate_paths.push(name),
                (false, name) => source.foreign_paths.push(name),
            }
        }
        source
    }

    /// Whether the code, its comments and literals aside, holds these tokens in a row.
    pub(crate) fn contains(&self, needle: &str) -> bool {
        let needle = tokens(needle);
        self.tokens.windows(needle.len()).any(|window| window == needle)
    }
}

/// Module path of a file under src/; empty for lib.rs and for files elsewhere.
fn module_of(path: &str) -> Vec<String> {
    let Some(inside) = path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")) else { return Vec::new() };
    let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

struct Walk<'a> {
    tokens: &'a [String],
    at: usize,
    /// The module that the walk is in, inline modules included.
    module: Vec<String>,
    /// For each open brace, whether it opened an inline module.
    open: Vec<bool>,
    /// Whether it is this crate's, and the path.
    paths: Vec<(bool, Vec<String>)>,
}

impl Walk<'_> {
    fn file(&mut self) {
        while let Some(token) = self.peek(0) {
            match token {
                "mod" if self.peek(2) == Some("{") => {
                    self.module.push(self.tokens[self.at + 1].clone());
                    self.open.push(true);
                    self.at += 3;
                }
                "{" => {
                    self.open.push(false);
                    self.at += 1;
                }
                "}" => {
                    if self.open.pop() == Some(true) {
                        self.module.pop();
                    }
                    self.at += 1;
                }
                "use" => {
                    self.at += 1;
                    self.tree(&[], true);
                }
                // `a.b::<T>()` is a method, not a path.
                _ if self.starts_path() => self.tree(&[], false),
                _ => self.at += 1,
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<&str> {
        self.tokens.get(self.at + ahead).map(String::as_str)
    }

    fn starts_path(&self) -> bool {
        let head = |token: Option<&str>| token.is_some_and(is_identifier);
        let after_dot = self.at > 0 && self.tokens[self.at - 1] == ".";
        (head(self.peek(0)) && self.peek(1) == Some("::") && !after_dot)
            || (self.peek(0) == Some("::") && head(self.peek(1)))
    }

    /// Reads one path, or in a `use` a tree of them, and notes each leaf.
    fn tree(&mut self, prefix: &[String], import: bool) {
        let mut name = prefix.to_vec();
        loop {
            match self.peek(0) {
                Some("::") => self.at += 1,
                Some("{") if import => {
                    self.at += 1;
                    while !matches!(self.peek(0), Some("}") | None) {
                        self.tree(&name, true);
                        if self.peek(0) == Some(",") {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                Some(token) if is_identifier(token) && token != "as" => {
                    name.push(token.to_owned());
                    self.at += 1;
                    if self.peek(0) != Some("::") {
                        break;
                    }
                }
                Some("*") if import => {
                    self.at += 1;
                    break;
                }
                _ => break,
            }
        }
        if import && self.peek(0) == Some("as") {
            self.at += 2;
        }
        self.note(name);
        if self.at < self.tokens.len() && self.peek(0) == Some(";") {
            self.at += 1;
        }
    }

    fn note(&mut self, mut name: Vec<String>) {
        if name.len() > 1 && name.last().is_some_and(|last| last == "self") {
            name.pop();
        }
        match name.first().map(String::as_str) {
            // The programs name their own library from outside.
            Some("crate" | "keystored") => self.paths.push((true, name.split_off(1))),
            Some("self" | "super") => {
                let mut base = self.module.clone();
                let mut rest = name.into_iter().peekable();
                while let Some(step) = rest.next_if(|part| part == "self" || part == "super") {
                    if step == "super" {
                        base.pop();
                    }
                }
                base.extend(rest);
                self.paths.push((true, base));
            }
            Some(_) => self.paths.push((false, name)),
            None => {}
        }
    }
}

fn is_identifier(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Splits code into identifiers, `::` and single characters; comments and literals are left out.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c.is_whitespace() {
            i += 1;
        } else if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            i = after_block_comment(&chars, i);
        } else if c == '"' {
            i = after_string(&chars, i);
        } else if c == '\'' {
            // A character, or the tick of a lifetime, whose name then reads as an identifier.
            i += match (at(i + 1), at(i + 2), at(i + 3)) {
                ('\\', ..) => 2 + chars[i + 2..].iter().skip(1).position(|c| *c == '\'').map_or(1, |n| n + 2),
                (_, '\'', _) => 3,
                _ => 1,
            };
        } else if c.is_alphanumeric() || c == '_' {
            let start = i;
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            let word: String = chars[start..i].iter().collect();
            let raw = matches!(word.as_str(), "r" | "br" | "cr") && matches!(at(i), '"' | '#');
            let prefixed = matches!(word.as_str(), "b" | "c") && at(i) == '"';
            match raw.then(|| after_raw_string(&chars, i)).flatten() {
                Some(end) => i = end,
                None if prefixed => i = after_string(&chars, i),
                None => out.push(word),
            }
        } else if c == ':' && at(i + 1) == ':' {
            out.push("::".to_owned());
            i += 2;
        } else {
            out.push(c.to_string());
            i += 1;
        }
    }
    out
}

fn after_block_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut i) = (0, start);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn after_string(chars: &[char], start: usize) -> usize {
    let mut i = start + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// Where a raw string that begins at its hashes ends; `None` when it is a raw identifier instead.
fn after_raw_string(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start..].iter().take_while(|c| **c == '#').count();
    let mut i = start + hashes;
    (chars.get(i) == Some(&'"')).then_some(())?;
    i += 1;
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take_while(|c| **c == '#').count() >= hashes {
            return Some(i + 1 + hashes);
        }
        i += 1;
    }
    Some(i)
}
