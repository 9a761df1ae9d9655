//! Reads the text form. The text is untrusted: every malformed input is an error with a line number.

use super::{Attr, DType, Data, Graph, InputKind, Op, Quant, Remark, Tensor, Type, ValueId};
use std::collections::HashMap;

/// A text that is not a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line, counted from 1.
    pub line: usize,
    /// One sentence.
    pub message: String,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ParseError {}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Number(String),
    Punct(char),
}

/// Largest number of elements of one constant.
const MAX_CONST: usize = 1 << 28;

/// Parses one graph. `blob` holds the elements of constants written as `blob`, in order, and must be used up.
///
/// Constants may also be written as `[1, 2]`, `splat 0.5`, or `random SEED` (uniform in [-1, 1], for tests).
///
/// # Errors
/// The first line that does not parse, names an unknown value, or states an impossible shape.
pub fn parse(text: &str, blob: &[u8]) -> Result<Graph, ParseError> {
    let mut parser =
        Parser { tokens: Vec::new(), next: 0, line: 0, blob, graph: Graph::default(), names: HashMap::new() };
    let mut outputs: Option<(Vec<String>, usize)> = None;
    let mut closed = false;
    for (i, line) in text.lines().enumerate() {
        parser.line = i + 1;
        parser.tokens = tokenize(line).map_err(|m| parser.error(m))?;
        parser.next = 0;
        if parser.tokens.is_empty() {
            continue;
        }
        if closed {
            return Err(parser.error("text after the closing brace"));
        }
        if outputs.is_none() {
            outputs = Some((parser.header()?, parser.line));
        } else if parser.accept('}') {
            closed = true;
        } else {
            parser.statement()?;
        }
        if parser.next != parser.tokens.len() {
            return Err(parser.error("unexpected text at the end of the line"));
        }
    }
    let Some((outputs, line)) = outputs else { return Err(parser.error("there is no graph")) };
    if !closed {
        return Err(parser.error("the closing brace is missing"));
    }
    if !parser.blob.is_empty() {
        return Err(parser.error("more constant data than the text names"));
    }
    parser.line = line;
    for name in outputs {
        let id = parser.lookup(&name)?;
        parser.graph.outputs.push(id);
    }
    Ok(parser.graph)
}

struct Parser<'a> {
    tokens: Vec<Token>,
    next: usize,
    line: usize,
    blob: &'a [u8],
    graph: Graph,
    names: HashMap<String, ValueId>,
}

impl Parser<'_> {
    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError { line: self.line, message: message.into() }
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += usize::from(token.is_some());
        token
    }

    fn accept(&mut self, c: char) -> bool {
        let hit = self.tokens.get(self.next) == Some(&Token::Punct(c));
        self.next += usize::from(hit);
        hit
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let hit = matches!(self.tokens.get(self.next), Some(Token::Word(w)) if w == word);
        self.next += usize::from(hit);
        hit
    }

    fn expect(&mut self, c: char) -> Result<(), ParseError> {
        if self.accept(c) { Ok(()) } else { Err(self.error(format!("expected '{c}'"))) }
    }

    fn word(&mut self) -> Result<String, ParseError> {
        match self.take() {
            Some(Token::Word(w)) => Ok(w),
            Some(Token::Text(_) | Token::Number(_) | Token::Punct(_)) | None => Err(self.error("expected a word")),
        }
    }

    fn text(&mut self) -> Result<String, ParseError> {
        match self.take() {
            Some(Token::Text(w)) => Ok(w),
            Some(Token::Word(_) | Token::Number(_) | Token::Punct(_)) | None => {
                Err(self.error("expected a string in quotes"))
            }
        }
    }

    fn number(&mut self) -> Result<String, ParseError> {
        match self.take() {
            Some(Token::Number(w)) => Ok(w),
            Some(Token::Word(w)) if ["inf", "NaN"].contains(&w.as_str()) => Ok(w),
            Some(Token::Word(_) | Token::Text(_) | Token::Punct(_)) | None => Err(self.error("expected a number")),
        }
    }

    fn num<T: std::str::FromStr>(&mut self) -> Result<T, ParseError> {
        let text = self.number()?;
        text.parse().map_err(|_| self.error(format!("'{text}' is not a number of this kind")))
    }

    /// A name behind `%` or `@`.
    fn name(&mut self) -> Result<String, ParseError> {
        match self.take() {
            Some(Token::Punct('%' | '@')) => match self.take() {
                Some(Token::Word(w) | Token::Number(w)) => Ok(w),
                Some(Token::Text(_) | Token::Punct(_)) | None => Err(self.error("expected a name")),
            },
            Some(Token::Word(_) | Token::Text(_) | Token::Number(_) | Token::Punct(_)) | None => {
                Err(self.error("expected a value: % or @ and a name"))
            }
        }
    }

    fn lookup(&self, name: &str) -> Result<ValueId, ParseError> {
        self.names.get(name).copied().ok_or_else(|| self.error(format!("'{name}' is not defined above")))
    }

    fn define(&mut self, name: &str, id: ValueId) -> Result<(), ParseError> {
        if self.graph.value(id).name != name {
            return Err(self.error(format!("'{name}' is defined twice")));
        }
        self.names.insert(name.to_owned(), id);
        Ok(())
    }

    fn ty(&mut self) -> Result<Type, ParseError> {
        let word = self.word()?;
        let dtype = DType::from_name(&word).ok_or_else(|| self.error(format!("'{word}' is not an element type")))?;
        self.expect('[')?;
        let mut dims = Vec::new();
        while !self.accept(']') {
            if !dims.is_empty() {
                self.expect(',')?;
            }
            dims.push(self.num::<u32>()? as usize);
        }
        match dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
            Some(n) if n <= MAX_CONST => {}
            Some(_) | None => return Err(self.error(format!("{dims:?} is too large"))),
        }
        let mut quant = None;
        if self.accept_word("q") {
            self.expect('(')?;
            let scale: f32 = self.num()?;
            self.expect(',')?;
            let zero_point: i8 = self.num()?;
            self.expect(')')?;
            if !(scale.is_finite() && scale > 0.0) {
                return Err(self.error("a scale is finite and positive"));
            }
            quant = Some(Quant { scale, zero_point });
        }
        Ok(Type { dtype, dims, quant })
    }

    /// `graph "name" (%x: f32[1], ...) -> (%y, ...) {`
    fn header(&mut self) -> Result<Vec<String>, ParseError> {
        if !self.accept_word("graph") {
            return Err(self.error("expected 'graph'"));
        }
        self.graph.name = self.text()?;
        self.expect('(')?;
        while !self.accept(')') {
            if !self.graph.inputs.is_empty() {
                self.expect(',')?;
            }
            let name = self.name()?;
            self.expect(':')?;
            let ty = self.ty()?;
            let mut kind = InputKind::Tensor;
            if self.accept_word("index") {
                self.expect('(')?;
                kind = InputKind::Index { count: self.num::<u16>()?.into() };
                self.expect(')')?;
            }
            let id = self.graph.add_input(&name, ty, kind);
            self.define(&name, id)?;
        }
        self.expect('-')?;
        self.expect('>')?;
        self.expect('(')?;
        let mut outputs = Vec::new();
        while !self.accept(')') {
            if !outputs.is_empty() {
                self.expect(',')?;
            }
            outputs.push(self.name()?);
        }
        self.expect('{')?;
        Ok(outputs)
    }

    fn statement(&mut self) -> Result<(), ParseError> {
        if self.accept_word("meta") {
            let key = self.text()?;
            self.expect('=')?;
            let value = self.text()?;
            self.graph.meta.push((key, value));
            Ok(())
        } else if self.accept_word("remark") {
            let remark = Remark { pass: self.word()?, node: self.text()?, message: self.text()? };
            self.graph.remarks.push(remark);
            Ok(())
        } else if self.accept_word("const") {
            let name = self.name()?;
            self.expect(':')?;
            let ty = self.ty()?;
            self.expect('=')?;
            let tensor = self.tensor(&ty)?;
            let id = self.graph.add_const(&name, tensor);
            self.graph.value_mut(id).ty = ty;
            self.define(&name, id)
        } else {
            self.node()
        }
    }

    fn tensor(&mut self, ty: &Type) -> Result<Tensor, ParseError> {
        let n = ty.elements();
        if self.accept_word("blob") {
            let bytes = n * ty.dtype.size_bytes();
            if bytes > self.blob.len() {
                return Err(self.error("the constant data end too early"));
            }
            let (head, tail) = self.blob.split_at(bytes);
            self.blob = tail;
            return Tensor::from_le_bytes(ty, head).ok_or_else(|| self.error("the constant data do not fit the type"));
        }
        if self.accept_word("random") {
            let seed: u64 = self.num()?;
            return Ok(random(ty, seed));
        }
        let splat = self.accept_word("splat");
        let mut words = Vec::new();
        if splat {
            words.push(self.number()?);
        } else {
            self.expect('[')?;
            while !self.accept(']') {
                if !words.is_empty() {
                    self.expect(',')?;
                }
                words.push(self.number()?);
            }
        }
        if !splat && words.len() != n {
            return Err(self.error(format!("{n} elements expected, {} found", words.len())));
        }
        let data = match ty.dtype {
            DType::F32 => Data::F32(self.elements(&words, splat, n)?),
            DType::I64 => Data::I64(self.elements(&words, splat, n)?),
            DType::I32 => Data::I32(self.elements(&words, splat, n)?),
            DType::S8 => Data::S8(self.elements(&words, splat, n)?),
        };
        Ok(Tensor { dims: ty.dims.clone(), data })
    }

    fn elements<T: std::str::FromStr + Clone>(
        &self,
        words: &[String],
        splat: bool,
        n: usize,
    ) -> Result<Vec<T>, ParseError> {
        let parsed: Result<Vec<T>, ParseError> = words
            .iter()
            .map(|w| w.parse().map_err(|_| self.error(format!("'{w}' is not an element of this type"))))
            .collect();
        let mut parsed = parsed?;
        if splat {
            parsed = vec![parsed[0].clone(); n];
        }
        Ok(parsed)
    }

    /// `%y = op %a, @b {key=value} : type from "node"`
    fn node(&mut self) -> Result<(), ParseError> {
        let name = self.name()?;
        self.expect('=')?;
        let op_name = self.word()?;
        let mut inputs = Vec::new();
        while matches!(self.tokens.get(self.next), Some(Token::Punct('%' | '@'))) {
            let operand = self.name()?;
            inputs.push(self.lookup(&operand)?);
            if !self.accept(',') {
                break;
            }
        }
        let mut attrs = Vec::new();
        if self.accept('{') {
            while !self.accept('}') {
                if !attrs.is_empty() {
                    self.expect(',')?;
                }
                let key = self.word()?;
                self.expect('=')?;
                attrs.push((key, self.attr()?));
            }
        }
        self.expect(':')?;
        let ty = self.ty()?;
        let origin = if self.accept_word("from") { self.text()? } else { name.clone() };
        let op = Op::from_attrs(&op_name, &attrs).map_err(|m| self.error(m))?;
        let id = self.graph.push_node(&name, op, &inputs, ty, &origin);
        self.define(&name, id)
    }

    fn attr(&mut self) -> Result<Attr, ParseError> {
        if self.accept('[') {
            let mut values = Vec::new();
            while !self.accept(']') {
                if !values.is_empty() {
                    self.expect(',')?;
                }
                values.push(self.num()?);
            }
            return Ok(Attr::Ints(values));
        }
        if let Some(Token::Word(w)) = self.tokens.get(self.next)
            && !["inf", "NaN"].contains(&w.as_str())
        {
            let word = w.clone();
            self.next += 1;
            return Ok(Attr::Word(word));
        }
        let text = self.number()?;
        if let Ok(v) = text.parse() {
            return Ok(Attr::Int(v));
        }
        text.parse().map(Attr::Float).map_err(|_| self.error(format!("'{text}' is not a number")))
    }
}

/// Uniform elements in [-1, 1] (integers: 0 or 1) from a 64-bit linear congruential generator.
fn random(ty: &Type, seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    let n = ty.elements();
    let data = match ty.dtype {
        DType::F32 => Data::F32((0..n).map(|_| draw()).collect()),
        DType::I64 => Data::I64((0..n).map(|_| i64::from(draw() > 0.0)).collect()),
        DType::I32 => Data::I32((0..n).map(|_| (draw() * 1000.0) as i32).collect()),
        DType::S8 => Data::S8((0..n).map(|_| (draw() * 127.0) as i8).collect()),
    };
    Tensor { dims: ty.dims.clone(), data }
}

/// Splits a line; `;` starts a comment.
fn tokenize(line: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(&c) = chars.peek() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if c == ';' {
            break;
        } else if c.is_whitespace() {
            chars.next();
        } else if c == '"' {
            chars.next();
            tokens.push(Token::Text(string(&mut chars)?));
        } else if is_word(c) || c == '-' {
            chars.next();
            let mut word = String::from(c);
            let mut last = c;
            while let Some(&d) = chars.peek() {
                let exponent_sign = (d == '-' || d == '+') && (last == 'e' || last == 'E') && starts_number(&word);
                if !is_word(d) && !exponent_sign {
                    break;
                }
                word.push(d);
                last = d;
                chars.next();
            }
            if word == "-" {
                tokens.push(Token::Punct('-'));
            } else if starts_number(&word) || word == "-inf" {
                tokens.push(Token::Number(word));
            } else if c == '-' {
                return Err(format!("'{word}' is neither a number nor a name"));
            } else {
                tokens.push(Token::Word(word));
            }
        } else if "(){}[]:,=%@>".contains(c) {
            chars.next();
            tokens.push(Token::Punct(c));
        } else {
            return Err(format!("unexpected character '{c}'"));
        }
    }
    Ok(tokens)
}

fn starts_number(word: &str) -> bool {
    word.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit())
}

fn string(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, String> {
    let mut out = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok(out),
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some(c @ ('"' | '\\')) => out.push(c),
                Some(_) | None => return Err("an unknown escape in a string".to_owned()),
            },
            c => out.push(c),
        }
    }
    Err("a string is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{ConstStyle, Def, print};
    use super::*;

    const TEXT: &str = r#"graph "t" (%x: f32[1,2,3,3], %k: i64[1] index(4)) -> (%y) {
  meta "unit" = "a \"quoted\" word"
  const @w: f32[2,2,1,1] = [1.0, -2.5, 1e-7, 3.0]
  const @b: f32[2] = splat 0.5
  %c = conv %x, @w, @b {pad=[0,0,0,0]} : f32[1,2,3,3] from "net/Conv 1"
  %y = silu %c : f32[1,2,3,3] from "net/Mul"
  remark lift "net/Mul" "sigmoid and mul became silu"
}
"#;

    #[test]
    fn prints_what_it_parses() {
        let graph = parse(TEXT, &[]).unwrap();
        let printed = print(&graph, ConstStyle::Full);
        assert_eq!(parse(&printed, &[]).unwrap(), graph);
        let blob: Vec<u8> = [&graph.values[2], &graph.values[3]]
            .iter()
            .flat_map(|v| match &v.def {
                Def::Const(t) => t.to_le_bytes(),
                Def::Input(_) | Def::Node => unreachable!(),
            })
            .collect();
        assert_eq!(parse(&print(&graph, ConstStyle::Blob), &blob).unwrap(), graph);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_an_error_or_a_graph() {
        for cut in 0..TEXT.len() {
            if let Some(head) = TEXT.get(..cut) {
                let _ = parse(head, &[]);
            }
        }
        for (i, replacement) in (0..TEXT.len()).flat_map(|i| "%@[]{}\"-,;9e.x=(".chars().map(move |c| (i, c))) {
            let mut text = TEXT.to_owned();
            if text.is_char_boundary(i) && text.is_char_boundary(i + 1) {
                text.replace_range(i..=i, &replacement.to_string());
                let _ = parse(&text, &[]);
            }
        }
    }

    #[test]
    fn an_unknown_operand_is_named() {
        let text = TEXT.replace("%c :", "%nowhere :");
        let error = parse(&text, &[]).unwrap_err();
        assert_eq!((error.line, error.message.as_str()), (6, "'nowhere' is not defined above"));
    }
}
