//! What the dashboard knows and what a key does to it. It draws nothing and asks no node: a key may result in a
//! [`Wish`], which the loop fulfils.
//!
//! The selection follows an id, not a line, so that a row that comes or goes does not move it to another pod.

use podium_podiumctl::table::printable;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::collections::VecDeque;

/// Lines of a log that are kept: some screens to scroll back.
const LOG_LINES: usize = 5000;
/// Longer lines are cut; a terminal is some hundred columns wide.
const LOG_COLUMNS: usize = 4096;

/// Which list is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tab {
    #[default]
    Pods,
    Services,
}

/// One pod, container or service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Item {
    /// By which its log is asked for.
    pub(super) id: String,
    /// Its cells, in the order of the tab's columns.
    pub(super) cells: Vec<String>,
    /// How it is: decides the colour.
    pub(super) health: Health,
    /// Has no log of its own: a pod's sandbox.
    pub(super) is_sandbox: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Health {
    Well,
    #[default]
    Unknown,
    Ill,
}

/// The node as a whole, at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Snapshot {
    pub(super) version: String,
    pub(super) pods: Vec<Item>,
    pub(super) services: Vec<Item>,
    /// Of all CPUs, 0 to 100; `None` until two moments are known.
    pub(super) cpu_percent: Option<f64>,
    pub(super) cpus: usize,
    pub(super) memory_used: u64,
    /// Bytes.
    pub(super) memory_total: u64,
    pub(super) load: [f64; 3],
}

/// What a key asks the loop to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    /// Follow the log of this id; true: of a pod's container.
    OpenLog(String, bool),
    CloseLog,
}

/// The log that is shown.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) id: String,
    pub(super) lines: VecDeque<String>,
    open: Vec<u8>,
    /// Lines between the end and the last line shown; 0: the end is followed.
    pub(super) back: usize,
    /// Why it has ended.
    pub(super) end: Option<String>,
    pub(super) wrap: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) node: String,
    pub(super) snapshot: Snapshot,
    pub(super) tab: Tab,
    /// The id of the selected item, by tab.
    pub(super) selected: [Option<String>; 2],
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) typing: bool,
    pub(super) help: bool,
    pub(super) log: Option<Log>,
    /// Why the last question was not answered.
    pub(super) fault: Option<String>,
    /// Whether any answer has come yet.
    pub(super) loaded: bool,
    /// Lines of a page, told by the view.
    pub(super) page: usize,
}

impl Model {
    pub(super) fn new(node: &str) -> Self {
        Self { node: node.to_owned(), page: 10, ..Self::default() }
    }

    /// A new picture of the node.
    pub(super) fn take(&mut self, snapshot: Snapshot) {
        self.snapshot = snapshot;
        self.loaded = true;
        self.fault = None;
    }

    /// More of the log.
    pub(super) fn take_log(&mut self, bytes: &[u8]) {
        let wanted = self.filter.to_lowercase();
        let Some(log) = &mut self.log else { return };
        log.open.extend_from_slice(bytes);
        while let Some(end) = log.open.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = log.open.drain(..=end).collect();
            log.push(&line[..end], &wanted);
        }
        if log.open.len() > LOG_COLUMNS {
            let line = std::mem::take(&mut log.open);
            log.push(&line, &wanted);
        }
    }

    /// The items of the tab that the filter lets through.
    pub(super) fn items(&self) -> Vec<&Item> {
        let all = match self.tab {
            Tab::Pods => &self.snapshot.pods,
            Tab::Services => &self.snapshot.services,
        };
        let wanted = self.filter.to_lowercase();
        let fits = |item: &&Item| {
            let mut texts = item.cells.iter().chain([&item.id]);
            wanted.is_empty() || texts.any(|text| text.to_lowercase().contains(&wanted))
        };
        all.iter().filter(fits).collect()
    }

    /// Line of the selected item among them.
    pub(super) fn line(&self) -> Option<usize> {
        let items = self.items();
        let id = self.selected[self.tab as usize].as_ref();
        let found = items.iter().position(|item| Some(&item.id) == id);
        found.or(if items.is_empty() { None } else { Some(0) })
    }

    /// The log's lines that the filter lets through.
    pub(super) fn log_lines(&self) -> Vec<&str> {
        let wanted = self.filter.to_lowercase();
        let lines = self.log.iter().flat_map(|log| &log.lines);
        lines.map(String::as_str).filter(|line| fits(line, &wanted)).collect()
    }

    /// What a key does.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Wish::Quit);
        }
        if self.help {
            self.help = false;
            return None;
        }
        if self.typing {
            self.type_filter(key.code);
            return None;
        }
        match key.code {
            KeyCode::Char('?') | KeyCode::F(1) => self.help = true,
            KeyCode::Char('/') => {
                self.typing = true;
                self.filter.clear();
            }
            KeyCode::Esc | KeyCode::Char('q') if !self.filter.is_empty() && key.code == KeyCode::Esc => {
                self.filter.clear();
            }
            KeyCode::Esc | KeyCode::Char('q') if self.log.is_some() => {
                self.log = None;
                self.filter.clear();
                return Some(Wish::CloseLog);
            }
            KeyCode::Char('q') => return Some(Wish::Quit),
            _ if self.log.is_some() => self.log_key(key.code),
            code => return self.list_key(code),
        }
        None
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        // Of what is left of a log that is scrolled back a page is to be seen.
        let most = self.log_lines().len().saturating_sub(self.page);
        if let Some(log) = &mut self.log {
            log.back = log.back.min(most);
        }
    }

    fn list_key(&mut self, code: KeyCode) -> Option<Wish> {
        let last = self.items().len().saturating_sub(1);
        let line = self.line().unwrap_or(0);
        let next = match code {
            KeyCode::Down | KeyCode::Char('j') => line + 1,
            KeyCode::Up | KeyCode::Char('k') => line.saturating_sub(1),
            KeyCode::PageDown => line + self.page,
            KeyCode::PageUp => line.saturating_sub(self.page),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            KeyCode::Tab | KeyCode::BackTab | KeyCode::Left | KeyCode::Right => {
                self.tab = if self.tab == Tab::Pods { Tab::Services } else { Tab::Pods };
                return None;
            }
            KeyCode::Char('1') | KeyCode::Char('p') => {
                self.tab = Tab::Pods;
                return None;
            }
            KeyCode::Char('2') | KeyCode::Char('s') => {
                self.tab = Tab::Services;
                return None;
            }
            KeyCode::Enter | KeyCode::Char('l') => return self.open_log(line),
            _ => return None,
        };
        let id = self.items().get(next.min(last)).map(|item| item.id.clone());
        self.selected[self.tab as usize] = id;
        None
    }

    /// The log of the selected item; of a pod that of its first container.
    fn open_log(&mut self, line: usize) -> Option<Wish> {
        let items = self.items();
        let selected = items.get(line)?;
        let id = if selected.is_sandbox {
            let inside = format!("{}:", selected.id);
            self.snapshot.pods.iter().find(|item| item.id.starts_with(&inside))?.id.clone()
        } else {
            selected.id.clone()
        };
        let is_pod = self.tab == Tab::Pods;
        self.filter.clear();
        self.log = Some(Log { id: id.clone(), ..Log::default() });
        Some(Wish::OpenLog(id, is_pod))
    }

    fn log_key(&mut self, code: KeyCode) {
        let (lines, page) = (self.log_lines().len(), self.page);
        let Some(log) = &mut self.log else { return };
        let most = lines.saturating_sub(1);
        // A filter may have taken lines away since.
        log.back = log.back.min(most);
        match code {
            KeyCode::Down | KeyCode::Char('j') => log.back = log.back.saturating_sub(1),
            KeyCode::Up | KeyCode::Char('k') => log.back = (log.back + 1).min(most),
            KeyCode::PageDown | KeyCode::Char(' ') => log.back = log.back.saturating_sub(page),
            KeyCode::PageUp => log.back = (log.back + page).min(most),
            KeyCode::Home | KeyCode::Char('g') => log.back = most,
            KeyCode::End | KeyCode::Char('G') => log.back = 0,
            KeyCode::Char('w') => log.wrap = !log.wrap,
            _ => {}
        }
    }
}

impl Log {
    /// Takes one line more; `wanted` is the filter.
    fn push(&mut self, line: &[u8], wanted: &str) {
        let text = printable(&String::from_utf8_lossy(&line[..line.len().min(LOG_COLUMNS)]));
        // Who reads further up keeps the place, among the lines that he sees.
        if self.back > 0 && fits(&text, wanted) {
            self.back += 1;
        }
        self.lines.push_back(text);
        if self.lines.len() > LOG_LINES {
            self.lines.pop_front();
        }
        self.back = self.back.min(self.lines.len().saturating_sub(1));
    }
}

/// Whether a filter in lower case lets the line through.
fn fits(line: &str, wanted: &str) -> bool {
    wanted.is_empty() || line.to_lowercase().contains(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, is_sandbox: bool) -> Item {
        let name = if is_sandbox { id.to_owned() } else { format!("└─ {id}") };
        Item { id: id.into(), cells: vec![name, "RUNNING".into()], health: Health::Well, is_sandbox }
    }

    fn model() -> Model {
        let mut model = Model::new("n");
        let pods = vec![item("a/web", true), item("a/web:nginx", false), item("b/db", true)];
        let services = vec![item("kubelet", false)];
        model.take(Snapshot { pods, services, ..Snapshot::default() });
        model
    }

    fn press(model: &mut Model, keys: &str) -> Vec<Wish> {
        let code = |key: char| match key {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '\t' => KeyCode::Tab,
            key => KeyCode::Char(key),
        };
        keys.chars().filter_map(|key| model.key(KeyEvent::from(code(key)))).collect()
    }

    #[test]
    fn the_selection_follows_the_pod_and_not_the_line() {
        let mut model = model();
        press(&mut model, "jj");
        assert_eq!(model.line(), Some(2));
        let mut snapshot = model.snapshot.clone();
        snapshot.pods.insert(0, item("a/new", true));
        model.take(snapshot);
        assert_eq!(model.line(), Some(3));
        press(&mut model, "jjjj");
        assert_eq!(model.line(), Some(3), "the end is the end");
        press(&mut model, "g");
        assert_eq!(model.line(), Some(0));
    }

    #[test]
    fn the_filter_is_typed_and_esc_takes_it_away() {
        let mut model = model();
        press(&mut model, "/NGI\n");
        assert_eq!(model.items().len(), 1);
        assert!(press(&mut model, "\u{1b}").is_empty());
        assert_eq!(model.items().len(), 3);
        assert!(press(&mut model, "/q").is_empty(), "a q that is typed ends nothing");
    }

    #[test]
    fn a_pods_log_is_that_of_its_container_and_q_goes_back_before_it_ends() {
        let mut model = model();
        assert_eq!(press(&mut model, "\n"), [Wish::OpenLog("a/web:nginx".into(), true)]);
        model.take_log(b"one\ntw");
        model.take_log(b"o\x1b[2J\n");
        assert_eq!(model.log_lines(), ["one", "two\\u{1b}[2J"]);
        assert_eq!(press(&mut model, "qq"), [Wish::CloseLog, Wish::Quit]);
        assert_eq!(press(&mut model, "\tl"), [Wish::OpenLog("kubelet".into(), false)]);
    }

    #[test]
    fn a_log_is_bounded_and_keeps_its_place() {
        let mut model = model();
        press(&mut model, "\n");
        (0..LOG_LINES).for_each(|n| model.take_log(format!("{n}\n").as_bytes()));
        press(&mut model, "k");
        model.take_log(b"new\n");
        let log = model.log.as_ref().unwrap();
        assert_eq!((log.lines.len(), log.back), (LOG_LINES, 2));
        press(&mut model, "G");
        assert_eq!(model.log.as_ref().unwrap().back, 0);
    }

    #[test]
    fn a_filter_over_a_log_that_is_scrolled_back_leaves_its_place_among_what_is_left() {
        let mut model = model();
        press(&mut model, "\n");
        (0..100).for_each(|n| model.take_log(format!("line {n}\n").as_bytes()));
        press(&mut model, "gk/9\n");
        assert_eq!(model.log_lines().len(), 19);
        assert_eq!(model.log.as_ref().unwrap().back, 9, "a page of them is seen");
        press(&mut model, "j");
        model.take_log(b"other\n9\n");
        assert_eq!(model.log.as_ref().unwrap().back, 9, "what is not seen moves nothing");
    }

    #[test]
    fn any_key_closes_the_help_and_ctrl_c_ends_from_everywhere() {
        let mut model = model();
        press(&mut model, "?");
        assert!(model.help);
        assert!(press(&mut model, "q").is_empty());
        assert!(!model.help);
        press(&mut model, "/");
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(model.key(ctrl_c), Some(Wish::Quit));
    }
}
