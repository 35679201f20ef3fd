//! Headers as the runner writes them, and as user code could.

use serde_json::{Value, json};

use super::*;

const NONCE: &str = "000102030405060708090a0b0c0d0e0f";

fn parsed(header: &Value, payload: &'static [u8]) -> Result<Said, Malformed> {
    Said::parse(Frame {
        header: serde_json::to_vec(header).unwrap().into(),
        payload: Bytes::from_static(payload),
    })
}

fn hello(python: &str) -> Value {
    json!({"type": "hello", "version": 1, "python": python, "implementation": "cpython"})
}

fn exception() -> Value {
    json!({"type": "ValueError", "module": "builtins", "message": "no", "traceback": "…"})
}

fn result(outcome: &str, exception: &Value) -> Value {
    json!({"type": "result", "attempt": "a/1", "nonce": NONCE, "outcome": outcome,
        "exception": exception})
}

#[test]
fn messages_are_what_the_protocol_says() {
    let said = |header: &Value, payload| parsed(header, payload).unwrap();
    assert!(matches!(said(&hello("3.11.2"), b""), Said::Hello(hello) if hello.python == "3.11.2"));
    assert!(matches!(said(&json!({"type": "ready"}), b""), Said::Ready));
    let failed = json!({"type": "failed", "stage": "import", "exception": exception()});
    assert!(matches!(said(&failed, b""), Said::Failed(exception) if exception.message == "no"));
    let output = json!({"type": "output", "attempt": null, "stream": "stderr"});
    assert!(matches!(said(&output, b"text"), Said::Output(Output {
        attempt: None, stream: OutputStream::Stderr, data }) if *data == *b"text"));
    let without =
        json!({"type": "result", "attempt": "a/1", "nonce": NONCE, "outcome": "returned"});
    for header in [without, result("returned", &Value::Null)] {
        let Said::Result(end) = said(&header, b"pickle") else {
            panic!("{header}");
        };
        assert_eq!(
            end.nonce.0.map(usize::from),
            std::array::from_fn(|index| index)
        );
        assert_eq!((&*end.attempt, &*end.payload), ("a/1", &b"pickle"[..]));
        assert!(end.exception.is_none());
    }
}

#[test]
fn what_has_no_meaning_is_refused() {
    let long: &[u8] = &[0; MAX_OUTPUT_BYTES + 1];
    let output = json!({"type": "output", "attempt": "a", "stream": "stdout"});
    let table: &[(Value, &'static [u8])] = &[
        (json!([]), b""),
        (json!({"type": "fly"}), b""),
        (json!({"version": 1}), b""),
        (json!({"type": "ready", "type2": 1}), b""),
        (json!({"type": "ready"}), b"payload"),
        (
            json!({"type": "hello", "version": 2, "python": "3.8.0", "implementation": "c"}),
            b"",
        ),
        (hello("3.11"), b""),
        (hello("3.11.2.1"), b""),
        (hello("3.11.x"), b""),
        (hello(&format!("3.11.{}1", "0".repeat(40))), b""),
        (
            json!({"type": "failed", "stage": "lunch", "exception": exception()}),
            b"",
        ),
        (json!({"type": "failed", "stage": "import"}), b""),
        (
            json!({"type": "output", "attempt": null, "stream": "stdin"}),
            b"",
        ),
        (output, long),
        (result("returned", &exception()), b""),
        (result("raised", &Value::Null), b""),
        (result("won", &exception()), b""),
        (
            json!({"type": "result", "attempt": "a", "nonce": "00", "outcome": "returned"}),
            b"",
        ),
    ];
    for (header, payload) in table {
        assert!(parsed(header, payload).is_err(), "{header}");
    }
    for header in [
        &b"\xff"[..],
        b"{",
        br#"{"type":"output","attempt":"\ud800","stream":"stdout"}"#,
    ] {
        let header = Bytes::copy_from_slice(header);
        let payload = Bytes::new();
        assert!(Said::parse(Frame { header, payload }).is_err());
    }
}

#[test]
fn errors_repeat_nothing() {
    for header in [
        json!({"type": "hunter2"}),
        json!({"type": "ready", "hunter2": 1}),
        hello("hunter2"),
        result("hunter2", &Value::Null),
    ] {
        let error = parsed(&header, b"").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn old_pythons_are_told() {
    let table = [
        ("3.6.9", Some("Python 3.6.9 is older than 3.8")),
        ("2.7.18", Some("Python 2.7.18 is older than 3.8")),
        ("3.8.0", None),
        ("3.13.1", None),
        ("4.0.0", None),
    ];
    for (python, expected) in table {
        let hello = Hello::parse(1, python.to_owned()).unwrap();
        assert_eq!(hello.too_old().as_deref(), expected);
    }
}

#[test]
fn a_setup_is_as_the_runner_reads_it() {
    let secret = [("TOKEN".to_owned(), SecretString::from("hunter2"))];
    let environment = Environment(secret.into());
    assert!(!format!("{environment:?}").contains("hunter2"));
    let setup = Setup {
        handler: "app:main",
        code: None,
        code_dir: "/mnt/code",
        limits: Limits {
            code_entries: 1,
            code_bytes: 2,
            result_bytes: 3,
        },
        environment: &environment,
        concurrency: 4,
    };
    let expected = json!({
        "type": "setup", "version": 1, "handler": "app:main", "code": null,
        "code_dir": "/mnt/code", "concurrency": 4, "environment": {"TOKEN": "hunter2"},
        "limits": {"code_entries": 1, "code_bytes": 2, "result_bytes": 3},
    });
    let written = serde_json::to_value(ToRunner::Setup { version: 1, setup }).unwrap();
    assert_eq!(written, expected);
    let long = [(
        "LONG".to_owned(),
        SecretString::from("x".repeat(MAX_HEADER_BYTES)),
    )];
    let environment = &Environment(long.into());
    let setup = Setup {
        environment,
        ..setup
    };
    assert!(setup.encode().is_err());
}

#[test]
fn calls_are_as_the_runner_reads_them() {
    let call = Call {
        attempt: "a/1",
        nonce: Nonce::parse(NONCE).unwrap(),
        task: "a",
        format: Format::Json,
        python: None,
    };
    let expected = json!({"type": "call", "attempt": "a/1", "nonce": NONCE, "task": "a",
        "format": "json", "python": null});
    assert_eq!(
        serde_json::to_value(ToRunner::Call(call)).unwrap(),
        expected
    );
    let stop = serde_json::to_value(ToRunner::Stop {}).unwrap();
    assert_eq!(stop, json!({"type": "stop"}));
}
