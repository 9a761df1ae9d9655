//! Rust names for ONNX names.

/// Words that cannot be the name of a method.
const KEYWORDS: [&str; 52] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield", "union",
];

/// `snake_case`; never empty, never a keyword.
pub(super) fn snake(name: &str) -> String {
    let words = words(name);
    let mut out = words.iter().map(|w| w.to_lowercase()).collect::<Vec<_>>().join("_");
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    if out == "_" || KEYWORDS.contains(&out.as_str()) {
        out.push_str("_value");
    }
    out
}

/// `SCREAMING_CASE`; never empty.
pub(super) fn screaming(name: &str) -> String {
    snake(name).to_uppercase()
}

/// `CamelCase`; never empty.
pub(super) fn camel(name: &str) -> String {
    let snake = snake(name);
    let mut out = String::new();
    for word in snake.split('_').filter(|w| !w.is_empty()) {
        let mut chars = word.chars();
        out.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        out.extend(chars);
    }
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, 'V');
    }
    out
}

/// Names made distinct by a number behind the later ones.
pub(super) fn distinct(names: impl IntoIterator<Item = String>, taken: &[&str]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for name in names {
        let free = |n: &String, out: &[String]| !out.contains(n) && !taken.contains(&n.as_str());
        let unique = if free(&name, &out) {
            name
        } else {
            (2..).map(|i| format!("{name}_{i}")).find(|n| free(n, &out)).unwrap_or(name)
        };
        out.push(unique);
    }
    out
}

/// Runs of ASCII letters and digits; a capital after a small letter starts a word.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous = ' ';
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            let starts = !previous.is_ascii_alphanumeric() || (c.is_ascii_uppercase() && previous.is_ascii_lowercase());
            match words.last_mut() {
                Some(word) if !starts => word.push(c),
                Some(_) | None => words.push(c.to_string()),
            }
        }
        previous = c;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_rust() {
        assert_eq!((snake("noise").as_str(), snake("actionChunk.0").as_str()), ("noise", "action_chunk_0"));
        assert_eq!((snake("type").as_str(), snake("0").as_str(), snake("%").as_str()), ("type_value", "_0", "__value"));
        assert_eq!((screaming("t-shirt").as_str(), screaming("Ankle boot").as_str()), ("T_SHIRT", "ANKLE_BOOT"));
        assert_eq!((camel("class_label").as_str(), camel("0").as_str()), ("ClassLabel", "V0"));
        let names = ["a", "a", "new", "a"].map(str::to_owned);
        assert_eq!(distinct(names, &["new"]), ["a", "a_2", "new_2", "a_3"]);
    }
}
