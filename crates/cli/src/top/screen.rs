//! The terminal while the view has it: taken, drawn on, listened to, given back.
//!
//! **Invariant:** the terminal is as it was before, however the view ends: by a key, an error, a signal or a panic.

use std::io;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::view::{self, Shown};
use crate::failure::Failure;

/// How long the listener waits before it looks whether anybody listens to it.
const LISTEN: Duration = Duration::from_millis(100);

/// The terminal, taken until this is dropped.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal. A panic gives it back before it says its words.
    pub(super) fn take() -> Result<Self, Failure> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                give_back();
                Err(failed(&error))
            }
        }
    }

    /// Draws the view, and tells how many lines can be scrolled past.
    pub(super) fn draw(&mut self, shown: &Shown<'_>) -> Result<usize, Failure> {
        let mut most = 0;
        self.0.draw(|frame| most = view::draw(frame, shown)).map_err(|error| failed(&error))?;
        Ok(most)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody can be told.
        let _ = self.0.show_cursor();
        // Giving it back a second time would have the shell write over the words of the panic.
        if !std::thread::panicking() {
            give_back();
        }
    }
}

fn give_back() {
    let _ = ratatui::try_restore();
}

fn failed(error: &io::Error) -> Failure {
    Failure::local(format!("the terminal cannot be used: {error}"))
}

/// What the person at the terminal wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To leave.
    Quit,
    /// To see so many lines further down, or up.
    Scroll(isize),
    /// To see it in another size.
    Redraw,
}

/// Listens to the keys, in a thread of its own because reading blocks. It ends with the receiver; the channel is closed
/// when the terminal is gone.
pub(super) fn wishes() -> mpsc::Receiver<Result<Wish, Failure>> {
    let (sender, wishes) = mpsc::channel(16);
    // On panic: the channel is closed, and the view ends.
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let read = event::poll(LISTEN).and_then(|is_there| is_there.then(event::read).transpose());
            let wish = match read {
                Ok(event) => event.as_ref().and_then(wish).map(Ok),
                Err(error) => Some(Err(failed(&error))),
            };
            let gone = matches!(wish, Some(Err(_)));
            if wish.is_some_and(|wish| sender.blocking_send(wish).is_err()) || gone {
                return;
            }
        }
    });
    wishes
}

fn wish(event: &Event) -> Option<Wish> {
    match event {
        Event::Key(KeyEvent { kind: KeyEventKind::Release, .. }) => None,
        // In raw mode Ctrl-C is a key like any other, and no signal.
        Event::Key(key) if key.modifiers.contains(KeyModifiers::CONTROL) => {
            (key.code == KeyCode::Char('c')).then_some(Wish::Quit)
        }
        Event::Key(key) => match key.code {
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Wish::Quit),
            KeyCode::Down => Some(Wish::Scroll(1)),
            KeyCode::Up => Some(Wish::Scroll(-1)),
            KeyCode::PageDown => Some(Wish::Scroll(10)),
            KeyCode::PageUp => Some(Wish::Scroll(-10)),
            _ => None,
        },
        Event::Resize(..) => Some(Wish::Redraw),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_help_says() {
        let key = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)));
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(key(code, KeyModifiers::NONE), Some(Wish::Quit), "{code:?}");
        }
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(key(KeyCode::Up, KeyModifiers::NONE), Some(Wish::Scroll(-1)));
        assert_eq!(wish(&Event::Resize(80, 24)), Some(Wish::Redraw));
    }
}
