//! Headers as authors write them, right and wrong.

use serde_json::json;

use super::*;

fn parse(toml: &str) -> Result<Header, HeaderError> {
    let lines: String = toml.lines().map(|line| format!("# {line}\n")).collect();
    let script = format!("#!/bin/sh\n# /// runql\n{lines}# ///\necho\n");
    Header::parse(&script, false).map(Option::unwrap)
}

/// The line within `toml`, from 1, and the reason.
fn fault(toml: &str) -> (usize, String) {
    let error = parse(toml).unwrap_err();
    (error.line() - 2, error.reason)
}

#[test]
fn a_whole_header_is_read() {
    let header = parse(
        r#"
description = "Counts"
timeout = "1h30m"

[parameters.steps]
type = "integer"
default = 5
minimum = 1
maximum = 0x10
description = "How far"

[parameters."dry-run"]
type = "boolean"
required = true

[parameters]
colours = { type = "array", items = { type = "string", enum = ["red", "blue"] }, maxItems = 2 }
since = { type = "string", format = "date", default = 2026-01-31 }
"#,
    )
    .unwrap();
    assert_eq!(header.description.as_deref(), Some("Counts"));
    assert_eq!(header.timeout, Some(Duration::from_secs(5400)));
    let parameters = header.parameters.unwrap();
    assert_eq!(
        parameters.names().collect::<Vec<_>>(),
        ["steps", "dry-run", "colours", "since"]
    );
    assert_eq!(
        *parameters.schema(),
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "steps": {"type": "integer", "default": 5, "minimum": 1, "maximum": 16, "description": "How far"},
                "dry-run": {"type": "boolean"},
                "colours": {"type": "array", "items": {"type": "string", "enum": ["red", "blue"]}, "maxItems": 2},
                "since": {"type": "string", "format": "date", "default": "2026-01-31"},
            },
            "required": ["dry-run"],
            "additionalProperties": false,
        })
    );
}

#[test]
fn timeouts_are_texts_or_seconds() {
    for (toml, millis) in [
        ("timeout = 90", 90_000),
        ("timeout = 0.5", 500),
        ("timeout = \"10m\"", 600_000),
    ] {
        assert_eq!(
            parse(toml).unwrap().timeout,
            Some(Duration::from_millis(millis)),
            "{toml}"
        );
    }
    for toml in [
        "timeout = 0",
        "timeout = -3",
        "timeout = inf",
        "timeout = true",
        "timeout = \"soon\"",
        "timeout = 1e300",
    ] {
        let (line, reason) = fault(toml);
        assert_eq!(line, 1, "{toml}");
        assert!(
            reason.contains("timeout") || reason.contains("finite"),
            "{toml}: {reason}"
        );
    }
}

#[test]
fn an_empty_header_declares_nothing_and_an_empty_table_declares_none() {
    assert!(parse("").unwrap().parameters.is_none());
    assert_eq!(
        parse("[parameters]").unwrap().parameters.unwrap().names().len(),
        0
    );
    assert!(Header::parse("echo\n", false).unwrap().is_none());
}

#[test]
fn each_fault_names_its_line_and_what_to_do() {
    let cases = [
        ("description = \"a\"\nx = ", 2, ""),
        (
            "descripton = \"a\"",
            1,
            "unknown key `descripton`: did you mean `description`?",
        ),
        (
            "zzz = 1",
            1,
            "unknown key `zzz`: there are `description`, `timeout`, `parameters`",
        ),
        ("description = 1", 1, "`description` must be a string"),
        ("parameters = 1", 1, "write [parameters.NAME]"),
        ("[parameters]\na = \"string\"", 2, "write [parameters.a]"),
        ("[parameters.a]\nrequired = true", 1, "has no `type`"),
        ("[parameters.a]\ntype = \"text\"", 2, "must be one of `string`"),
        ("[parameters.a]\ntype = 1", 2, "must be one of `string`"),
        (
            "[parameters.a]\ntype = \"integer\"\nminimun = 1",
            3,
            "did you mean `minimum`?",
        ),
        (
            "[parameters.a]\ntype = \"integer\"\nminLength = 1",
            3,
            "no effect on the type integer",
        ),
        (
            "[parameters.a]\ntype = \"integer\"\nminimum = \"1\"",
            3,
            "`a.minimum`: must be a number, not a string",
        ),
        (
            "[parameters.a]\ntype = \"string\"\nminLength = -1",
            3,
            "`a.minLength`: must be at least 0",
        ),
        (
            "[parameters.a]\ntype = \"string\"\nrequired = \"yes\"",
            3,
            "true or false",
        ),
        (
            "[parameters.a]\ntype = \"string\"\npattern = \"(\"",
            3,
            "`a.pattern`",
        ),
        (
            "[parameters.a]\ntype = \"string\"\npattern = \"(?=a)\"",
            3,
            "`a.pattern`",
        ),
        (
            "[parameters.a]\ntype = \"string\"\nformat = \"postcode\"",
            3,
            "`a",
        ),
        (
            "[parameters.a]\ntype = \"string\"\nenum = [1]",
            3,
            "values of the type string",
        ),
        (
            "[parameters.a]\ntype = \"string\"\nenum = \"x\"",
            3,
            "values of the type string",
        ),
        (
            "[parameters.a]\ntype = \"integer\"\n\ndefault = \"x\"",
            4,
            "the default does not fit: `a` must be a whole number",
        ),
        (
            "[parameters.a]\ntype = \"integer\"\nminimum = 3\ndefault = 2",
            4,
            "at least 3",
        ),
        ("[parameters.a]\ntype = \"number\"\ndefault = nan", 3, "finite"),
        (
            "[parameters.a]\ntype = \"integer\"\ndefault = 99999999999999999999",
            3,
            "64 bits",
        ),
        (
            "[parameters.a]\ntype = \"array\"\nitems = { \"$ref\" = \"#\" }",
            3,
            "begin with `$`",
        ),
        (
            "[parameters.a]\ntype = \"array\"\nitems = { allOf = [{ \"$ref\" = \"file:///etc/passwd\" }] }",
            3,
            "begin with `$`",
        ),
        (
            "[parameters.my-x]\ntype = \"string\"\n[parameters.my_x]\ntype = \"string\"",
            3,
            "would both be PARAM_MY_X",
        ),
        ("[parameters.\"\"]\ntype = \"string\"", 1, "needs a name"),
        ("description = \"a\"\ndescription = \"b\"", 2, ""),
    ];
    for (toml, line, reason) in cases {
        let found = fault(toml);
        assert_eq!(found.0, line, "{toml}: {}", found.1);
        assert!(
            found.1.contains(reason) && !found.1.is_empty(),
            "{toml}: {}",
            found.1
        );
    }
}

#[test]
fn a_required_parameter_with_a_default_may_be_left_out() {
    let header = parse("[parameters.a]\ntype = \"string\"\nrequired = true\ndefault = \"x\"").unwrap();
    let parameters = header.parameters.unwrap();
    assert_eq!(parameters.schema()["required"], json!([]));
    assert_eq!(parameters.validate(Map::new()).unwrap()["a"], "x");
}

#[test]
fn deep_nesting_is_an_error_and_not_the_end() {
    let deep = format!("x = {}1{}", "[".repeat(20_000), "]".repeat(20_000));
    assert!(parse(&deep).is_err());
    let items = (0..60).fold("{ type = \"string\" }".to_owned(), |inner, _| {
        format!("{{ type = \"array\", items = {inner} }}")
    });
    assert!(parse(&format!("[parameters.a]\ntype = \"array\"\nitems = {items}")).is_ok());
}

#[test]
fn no_prefix_of_a_header_and_no_flipped_byte_panics() {
    let whole = "#!/bin/sh\n# /// runql\n# timeout = \"5m\"\n# [parameters.a]\n# type = \"array\"\n# items = { type = \"string\" }\n# default = [\"ü\"]\n# ///\n";
    for end in (0..whole.len()).filter(|&end| whole.is_char_boundary(end)) {
        let _ = Header::parse(&whole[..end], true);
    }
    for at in 0..whole.len() {
        for byte in [0, b'"', b'\n', b'[', b'=', 0xff] {
            let mut bytes = whole.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = Header::parse(&String::from_utf8_lossy(&bytes), false);
        }
    }
}
