//! The oracle: one node process for all questions, a question a line and an answer a line.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::case::{Case, Verdict};

/// The process.
pub(crate) struct Oracle {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    /// Starts it. Its script stands beside the packages that it needs.
    pub(crate) fn start(script: &Path) -> Result<Self, String> {
        let mut child = Command::new("node")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("node cannot be started ({error}); install nodejs and npm"))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(questions), Some(answers)) => {
                Ok(Self { child, questions: Some(questions), answers: BufReader::new(answers) })
            }
            _ => Err("node has no standard input and output".to_owned()),
        }
    }

    /// What it decides.
    pub(crate) fn ask(&mut self, case: &Case) -> Result<Verdict, String> {
        let gone = |what: &dyn std::fmt::Display| format!("the oracle has ended: {what}");
        let question = format!("{}\n", case.question());
        if let Some(questions) = &mut self.questions {
            questions.write_all(question.as_bytes()).map_err(|error| gone(&error))?;
        }
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| gone(&error))?;
        let answer: Value = serde_json::from_str(&line).map_err(|error| gone(&error))?;
        if let Some(why) = answer["refused"].as_str() {
            return Err(format!("the oracle refuses the question: {why}"));
        }
        // Else it would be asked about another request than the evaluator.
        match answer["ignored"].as_array() {
            Some(ignored) if ignored.is_empty() => {}
            ignored => return Err(format!("the oracle did not look at these condition keys: {ignored:?}")),
        }
        match answer["verdict"].as_str() {
            Some("Allowed") => Ok(Verdict::Allowed),
            Some("ExplicitlyDenied") => Ok(Verdict::ExplicitlyDenied),
            Some("ImplicitlyDenied") => Ok(Verdict::ImplicitlyDenied),
            other => Err(format!("the oracle answers {other:?}")),
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.questions.take());
        let _ = self.child.wait();
    }
}
