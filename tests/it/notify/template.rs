//! The appearance of messages.

use jobexec_operator::api::notifications::Templates as Spec;
use jobexec_operator::notify::template::Part;
use jobexec_operator::notify::{Message, Rendered, Templates};

use super::{execution, full, message};

fn rendered(spec: &Spec, message: &Message) -> (Rendered, Vec<String>) {
    let (templates, _) = Templates::new(Some(spec));
    let (rendered, errors) = templates.render(message);
    (rendered, errors.iter().map(ToString::to_string).collect())
}

fn default(message: &Message) -> Rendered {
    let (rendered, errors) = rendered(&Spec::default(), message);
    assert_eq!(errors, [] as [&str; 0]);
    rendered
}

#[test]
fn a_message_tells_all_that_somebody_needs_at_night() {
    let Rendered { subject, text, html } = default(&message());
    assert_eq!(subject, "[jobexec] team-a/jobs: breaker open, 3 executions failed, 2 running long");
    let expected = "\
team-a/jobs: breaker open, 3 executions failed, 2 running long

2025-08-08T16:24:08Z  1200 executions are stale, more than maxFailuresPerSweep (1000).

39, job 21 #5: Failed at 2025-08-08T16:24:08Z, DeadlineExceeded
    started 2025-08-07T18:18:08Z, ran for 22.1 h, deadline 2025-08-08T16:24:08Z
    by ExecutionPolicy/nightly

40, job 21 #5: Failed at 2025-08-08T16:24:08Z, DeadlineExceeded
    started 2025-08-07T18:18:08Z, ran for 22.1 h, deadline 2025-08-08T16:24:08Z
    by ExecutionPolicy/nightly

and 1 more.

Next:
    kubectl -n team-a describe executionstore jobs
    jobexec explain 39 --store team-a/jobs
    jobexec history --since 1h --store team-a/jobs
    jobexec cleanup --dry-run --store team-a/jobs
    jobexec resume --store team-a/jobs

Channel ops, message 7e0b1c52-61c8-4a7e-9a43-0d3a1a9f0c11, 2025-08-08T16:24:08Z";
    assert_eq!(text, expected);
    for part in ["<b>39</b>", "22.1 h", "DeadlineExceeded", "ExecutionPolicy&#x2f;nightly", "and 1 more."] {
        assert!(html.contains(part), "{part} in {html}");
    }
    assert!(!html.contains("<img") && !html.contains("href") && !html.contains("http"), "{html}");
}

#[test]
fn little_may_be_known() {
    let mut bare = execution("-39");
    (bare.job_id, bare.execution_number, bare.started_at, bare.deadline) = (None, None, None, None);
    let owner = Some("me@example.org".to_owned());
    let message = Message { executions: vec![bare], omitted: 0, notes: vec![], owner, ..message() };
    let text = default(&message).text;
    assert!(
        text.contains(
            "\n-39: Failed at 2025-08-08T16:24:08Z, DeadlineExceeded\n    started at an unknown time\n"
        ),
        "{text}"
    );
    assert!(text.contains("\n    jobexec explain --store team-a/jobs -- -39\n"), "{text}");
    assert!(text.contains("you own these executions (me@example.org)."), "{text}");
    let nothing = Message { executions: vec![], counts: vec![], ..message };
    assert_eq!(default(&nothing).subject, "[jobexec] team-a/jobs: nothing new");
}

#[test]
fn what_a_table_holds_stays_on_its_line_and_is_no_markup() {
    let evil = "<script>alert(1)</script>\r\nBcc: x@example.org\u{1b}[2J\u{202e}'$(reboot)";
    let mut row = execution(evil);
    row.job_type = Some("x".repeat(10_000));
    let (owner, notes) = (Some(evil.to_owned()), vec![]);
    let message = Message { store: evil.to_owned(), executions: vec![row], owner, notes, ..message() };
    let Rendered { subject, text, html } = default(&message);
    assert!(!subject.contains(char::is_control) && subject.chars().count() <= 200, "{subject:?}");
    assert!(!text.contains(['\r', '\u{1b}', '\u{202e}']), "{text:?}");
    assert!(!text.contains("\nBcc"), "{text}");
    assert!(text.contains(r"'<script>alert(1)</script> Bcc: x@example.org [2J '\''$(reboot)'"), "{text}");
    assert!(!html.contains("<script"), "{html}");
    assert!(text.len() < 5_000, "{}", text.len());
}

#[test]
fn a_message_with_all_that_it_can_name_is_rendered() {
    let Rendered { subject, text, html } = default(&full());
    assert_eq!(subject, "[jobexec] team-a/jobs: 10000 executions failed");
    assert_eq!(text.matches("DeadlineExceeded").count(), 50);
    assert_eq!(html.matches("DeadlineExceeded").count(), 50);
    assert!(text.contains("\nand 9950 more.\n"), "{text}");
}

#[test]
fn own_templates_replace_the_defaults_one_by_one() {
    let spec = Spec {
        subject: Some("{{ store }}:\n{{ executions | length }} of {{ counts[1].count }}".to_owned()),
        text: None,
        html: Some("{% for e in executions %}<i>{{ e.jobId }}&{{ e.source }}</i>{% endfor %}".to_owned()),
    };
    let (own, errors) = rendered(&spec, &message());
    assert_eq!(errors, [] as [&str; 0]);
    assert_eq!(own.subject, "jobs: 2 of 3");
    assert_eq!(own.text, default(&message()).text);
    assert_eq!(own.html, "<i>21&ExecutionPolicy&#x2f;nightly</i>".repeat(2));
}

#[test]
fn a_template_with_an_error_is_told_of_at_once_and_the_default_is_sent() {
    for (source, line, told) in [
        ("a\n{% if %}", 2, "syntax error"),
        ("a\nb {{ execution }}", 2, "`execution`"),
        ("{{ executions[0].jobid }}", 1, "jobid"),
        ("{{ store | shout }}", 1, "shout"),
        ("{% include 'message.txt' %}", 1, "syntax error"),
        ("{{ 1 / 0 }}", 1, ""),
        ("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}", 1, "fuel"),
        ("{{ 'x' * 1000000000000 }}", 1, "fuel"),
        ("{{ 'x' * 300000 }}", 0, "longer than"),
        ("{{ 'x' | indent(1000000000) }}", 1, ""),
    ] {
        let spec = Spec { text: Some(source.to_owned()), ..Spec::default() };
        let (templates, early) = Templates::new(Some(&spec));
        let (own, late) = templates.render(&message());
        assert_eq!(own.text, default(&message()).text, "{source}");
        let error = early.into_iter().chain(late).next().unwrap_or_else(|| panic!("no error: {source}"));
        assert_eq!((error.part, error.line.unwrap_or(0)), (Part::Text, line), "{source}: {error}");
        assert!(error.to_string().contains(told), "{source}: {error}");
        assert!(error.to_string().chars().count() < 300, "{error}");
    }
}

#[test]
fn an_error_that_only_some_messages_have_spoils_only_their_part() {
    let spec = Spec {
        subject: Some("{{ executions[1].id }} {{ summary }}".to_owned()),
        text: Some("own".to_owned()),
        html: None,
    };
    let (templates, errors) = Templates::new(Some(&spec));
    assert_eq!(errors, []);
    let (own, errors) = templates.render(&Message { executions: vec![], ..message() });
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].to_string().starts_with("templates.subject, line 1: undefined value"), "{}", errors[0]);
    assert_eq!(own.subject, default(&message()).subject);
    assert_eq!(own.text, "own");
}

/// Whatever a template of the maximum length nests, it causes an error at worst.
#[test]
fn no_template_ends_the_process() {
    const LONGEST: usize = 65_536;
    let nested = |begin: &str, repeated: &str, end: &str| {
        let times = (LONGEST - begin.len() - end.len()) / repeated.len();
        format!("{begin}{}{end}", repeated.repeat(times))
    };
    let around = |before: &str, after: &str| {
        let times = LONGEST / (before.len() + after.len());
        format!("{}x{}", before.repeat(times), after.repeat(times))
    };
    let expressions = ["-", "not ", "1+", "1~", "'a'+", "1**", "1 and ", "1<", "1 if 1 else "]
        .map(|repeated| nested("{{ ", repeated, "1 }}"));
    let values = [".a", "[0]", "()", "|e", "|list", "|batch(1)", " is odd"]
        .map(|repeated| nested("{{ counts", repeated, " }}"));
    let blocks = [("{%if 1%}", "{%endif%}"), ("{%set a%}", "{%endset%}"), ("{{[", "]}}"), ("[", "]")]
        .map(|(before, after)| around(before, after));
    let others = [
        nested("{%if 0%}", "{%elif 0%}", "{%endif%}"),
        nested("{%set a=1%}", "{%set a=[a]%}", "{{ a }}"),
        nested("{%set a=1%}", "{%set a=[[[[[[a]]]]]]%}", "{{ a }}"),
        nested("{%set a=[1]%}", "{%set a=a|batch(1)%}", "{{ a | list }}"),
        "{%set n=namespace(a=1)%}{%for i in range(30000)%}{%set n.a=[n.a]%}{%endfor%}{{ n.a }}".to_owned(),
        "{%for i in [1] recursive%}{{ loop([[i]]) }}{%endfor%}".to_owned(),
        format!("{{{{ {}1{} }}}}", "[".repeat(32_000), "]".repeat(32_000)),
        "{{".to_owned(),
        "{% raw %}".to_owned(),
        "\0\u{feff}".to_owned(),
        String::new(),
    ];
    for source in expressions.into_iter().chain(values).chain(blocks).chain(others) {
        let begin: String = source.chars().take(60).collect();
        let spec = Spec { html: Some(source), ..Spec::default() };
        let (own, errors) = rendered(&spec, &message());
        assert!(own.html.len() <= 256 * 1024, "{begin}");
        assert!(errors.iter().all(|error| error.starts_with("templates.html")), "{begin}: {errors:?}");
    }
}
