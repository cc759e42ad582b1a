//! The terminal of the live table: taken whole, and given back whatever ends the process that can still do something about
//! it. What others say on stderr meanwhile is kept and said afterwards.

use super::watch_state::Key;
use muster_ports::Result;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use std::io::{Stderr, Write, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Log lines kept while the table stands, in bytes; what is more is dropped, and that is said.
const KEPT_MAX: usize = 256 << 10;
/// How long the thread that reads keys waits before it looks whether it is still wanted.
const KEY_LOOK: Duration = Duration::from_millis(100);
/// Keys that were not taken yet: nobody types faster than the table is drawn.
const KEYS_MAX: usize = 64;

/// A table stands on the terminal.
static STANDS: AtomicBool = AtomicBool::new(false);
static KEPT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static HOOK: Once = Once::new();

/// The terminal, as long as it lives.
#[derive(Debug)]
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    wanted: Arc<AtomicBool>,
}

impl Screen {
    /// Takes the terminal. Keys come by the receiver.
    pub fn open() -> Result<(Self, mpsc::Receiver<Key>)> {
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        enable_raw_mode()?;
        STANDS.store(true, Ordering::SeqCst);
        if let Err(error) = execute!(stderr(), EnterAlternateScreen) {
            give_back();
            return Err(error.into());
        }
        let terminal = Terminal::new(CrosstermBackend::new(stderr())).inspect_err(|_| give_back())?;
        let wanted = Arc::new(AtomicBool::new(true));
        let (sender, keys) = mpsc::channel(KEYS_MAX);
        let reads = wanted.clone();
        std::thread::spawn(move || read_keys(&reads, &sender));
        Ok((Self { terminal, wanted }, keys))
    }

    pub fn draw(&mut self, show: impl FnOnce(ratatui::layout::Rect, &mut ratatui::buffer::Buffer)) -> Result<()> {
        if STANDS.load(Ordering::SeqCst) {
            self.terminal.draw(|frame| show(frame.area(), frame.buffer_mut()))?;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::SeqCst);
        give_back();
    }
}

/// Once for each taking, from wherever it is noticed first.
fn give_back() {
    if !STANDS.swap(false, Ordering::SeqCst) {
        return;
    }
    // Nothing better can be done about a terminal that takes no more words.
    let _ = execute!(stderr(), LeaveAlternateScreen, ratatui::crossterm::cursor::Show);
    let _ = disable_raw_mode();
    let kept = std::mem::take(&mut *KEPT.lock().unwrap_or_else(PoisonError::into_inner));
    let _ = stderr().write_all(&kept);
}

fn read_keys(wanted: &AtomicBool, sender: &mpsc::Sender<Key>) {
    while wanted.load(Ordering::SeqCst) {
        match event::poll(KEY_LOOK) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(_) => return,
        }
        let Ok(event) = event::read() else { return };
        if let Some(key) = key_of(&event)
            && sender.blocking_send(key).is_err()
        {
            return;
        }
    }
}

fn key_of(event: &Event) -> Option<Key> {
    let Event::Key(pressed) = event else { return None };
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    match pressed.code {
        KeyCode::Char('c') if pressed.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Interrupt),
        KeyCode::Char('y' | 'Y' | 'a' | 'A') => Some(Key::Yes),
        KeyCode::Char('n' | 'N') => Some(Key::No),
        KeyCode::Char('p' | 'P') => Some(Key::Pause),
        KeyCode::Char('q' | 'Q') => Some(Key::Quit),
        KeyCode::Tab | KeyCode::Down | KeyCode::Up => Some(Key::Another),
        KeyCode::Enter => Some(Key::Confirm),
        // Any other character takes back what was about to be confirmed.
        KeyCode::Esc | KeyCode::Char(_) => Some(Key::Back),
        _ => None,
    }
}

/// stderr for the log: straight, or kept until the table is gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !STANDS.load(Ordering::SeqCst) {
            return stderr().write(bytes);
        }
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() + bytes.len() <= KEPT_MAX {
            kept.extend_from_slice(bytes);
        } else if !kept.ends_with(b"...\n") {
            kept.extend_from_slice(b"more was logged than is kept while the table stands ...\n");
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        stderr().flush()
    }
}
