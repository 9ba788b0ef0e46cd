//! How the dashboard looks, from one column and one line up: a header with the node's use, the list or the log, a line
//! of keys or of what is wrong.

use super::state::{Health, Log, Model, Tab};
use podium_podiumctl::table::printable;
use podium_podiumctl::times;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState};
use unicode_width::UnicodeWidthChar;

const HELP: &str = "\
 Up Down, k j      move; PgUp PgDn, g G too
 Tab, 1 2          pods, services
 Enter, l          log of the selected one
 /                 filter; Esc takes it away
 w                 wrap the lines of a log
 Esc, q            back; q ends
 Ctrl-C            ends

 any key closes this";

/// Draws all of it. Tells the model how many lines a page has.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model, colours: bool) {
    let paint = Paint(colours);
    let [head, title, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    model.page = usize::from(body.height).saturating_sub(1).max(1);
    frame.render_widget(header(model, paint), head);
    frame.render_widget(title_line(model, paint), title);
    match &model.log {
        Some(log) => self::log(frame, model, log, body, paint),
        None => list(frame, model, body, paint),
    }
    frame.render_widget(footer(model, paint), foot);
    if model.help {
        let area = centred(frame.area(), 50, 12);
        frame.render_widget(Clear, area);
        let block = Block::bordered().title(" Keys ");
        frame.render_widget(Paragraph::new(HELP).block(block), area);
    }
}

/// Colours, unless NO_COLOR says no. What they say is said in words too.
#[derive(Debug, Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn fg(self, colour: Color) -> Style {
        if self.0 { Style::new().fg(colour) } else { Style::new() }
    }

    fn of(self, health: Health) -> Style {
        match health {
            Health::Well => self.fg(Color::Green),
            Health::Unknown => Style::new(),
            Health::Ill => self.fg(Color::Red),
        }
    }
}

fn header(model: &Model, paint: Paint) -> Line<'_> {
    let now = &model.snapshot;
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut spans =
        vec![Span::styled(format!(" {} ", printable(&model.node)), bold.patch(paint.fg(Color::Cyan)))];
    if model.loaded {
        spans.push(Span::raw(format!("{} ", printable(&now.version))));
        let cpu = now.cpu_percent.unwrap_or(0.0);
        spans.push(Span::raw(" CPU "));
        spans.push(Span::styled(bar(cpu), paint.fg(level(cpu))));
        spans.push(Span::raw(format!(" {cpu:>3.0}% of {} ", now.cpus)));
        let memory = percent(now.memory_used, now.memory_total);
        spans.push(Span::raw(" MEM "));
        spans.push(Span::styled(bar(memory), paint.fg(level(memory))));
        spans.push(Span::raw(format!(
            " {}/{} ",
            times::bytes(now.memory_used),
            times::bytes(now.memory_total)
        )));
        let [one, five, fifteen] = now.load;
        spans.push(Span::raw(format!(" load {one:.2} {five:.2} {fifteen:.2}")));
    } else {
        spans.push(Span::raw(" asking the node…"));
    }
    Line::from(spans)
}

fn title_line(model: &Model, paint: Paint) -> Line<'_> {
    let chosen = Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD);
    let mut spans = Vec::new();
    if let Some(log) = &model.log {
        let state = if log.end.is_some() {
            "ended"
        } else if log.back > 0 {
            "scrolled back"
        } else {
            "following"
        };
        spans.push(Span::styled(format!(" log of {} ", printable(&log.id)), chosen));
        spans.push(Span::raw(format!(" {state}")));
    } else {
        let now = &model.snapshot;
        let pods = now.pods.iter().filter(|item| item.is_sandbox).count();
        for (tab, text) in [
            (Tab::Pods, format!(" 1 Pods {pods} ")),
            (Tab::Services, format!(" 2 Services {} ", now.services.len())),
        ] {
            spans.push(Span::styled(text, if model.tab == tab { chosen } else { Style::new() }));
            spans.push(Span::raw(" "));
        }
    }
    if model.typing || !model.filter.is_empty() {
        let cursor = if model.typing { "_" } else { "" };
        let text = format!("  /{}{cursor}", printable(&model.filter));
        spans.push(Span::styled(text, paint.fg(Color::Yellow)));
    }
    Line::from(spans)
}

fn list(frame: &mut Frame<'_>, model: &Model, area: Rect, paint: Paint) {
    let (header, widths): (&[&str], &[Constraint]) = match model.tab {
        Tab::Pods => (
            &["NAME", "STATUS", "CPU", "MEMORY", "IMAGE"],
            &[
                Constraint::Fill(3),
                Constraint::Length(9),
                Constraint::Length(7),
                Constraint::Length(8),
                Constraint::Fill(2),
            ],
        ),
        Tab::Services => (
            &["SERVICE", "STATE", "HEALTH", "LAST EVENT"],
            &[Constraint::Fill(1), Constraint::Length(12), Constraint::Length(7), Constraint::Fill(3)],
        ),
    };
    let items = model.items();
    if items.is_empty() && model.loaded {
        let text = if model.filter.is_empty() { "nothing runs" } else { "nothing fits the filter" };
        frame.render_widget(Paragraph::new(text).alignment(Alignment::Center), area);
        return;
    }
    let rows = items.iter().map(|item| {
        let style = paint.of(item.health);
        let cell = |(at, text): (usize, &String)| {
            let cell = Cell::from(printable(text));
            if at == 1 { cell.style(style) } else { cell }
        };
        Row::new(item.cells.iter().enumerate().map(cell).collect::<Vec<_>>())
    });
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let table = Table::new(rows, widths.to_vec())
        .header(Row::new(header.to_vec()).style(bold))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(model.line());
    frame.render_stateful_widget(table, area, &mut state);
}

fn log(frame: &mut Frame<'_>, model: &Model, log: &Log, area: Rect, paint: Paint) {
    let (width, height) = (usize::from(area.width).max(1), usize::from(area.height));
    let all = model.log_lines();
    // Behind a filter there may be fewer lines than it is scrolled back.
    let back = log.back.min(all.len().saturating_sub(1));
    let last = all.len() - back;
    let first = last.saturating_sub(height);
    let cut = |line: &&str| if log.wrap { wrapped(line, width) } else { vec![(*line).to_owned()] };
    let mut lines: Vec<Line<'_>> = all[first..last].iter().flat_map(cut).map(Line::raw).collect();
    if let (Some(end), 0) = (&log.end, back) {
        lines.push(Line::styled(printable(end), paint.fg(Color::Yellow)));
    }
    // The end is what is looked at.
    lines.drain(..lines.len().saturating_sub(height));
    frame.render_widget(Paragraph::new(lines), area);
}

/// A line in pieces that are no wider than this.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut used = 0;
    for letter in line.chars() {
        let wide = letter.width().unwrap_or(0);
        if used + wide > width && used > 0 {
            pieces.push(String::new());
            used = 0;
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(letter);
        }
        used += wide;
    }
    pieces
}

fn footer(model: &Model, paint: Paint) -> Line<'_> {
    if let Some(fault) = &model.fault {
        return Line::styled(format!(" {}", printable(fault)), paint.fg(Color::Red));
    }
    let keys = if model.typing {
        " Enter keeps the filter  Esc takes it away"
    } else if model.log.is_some() {
        " j/k scroll  G follow  / filter  w wrap  q back  ? help"
    } else {
        " j/k move  Tab pods/services  Enter logs  / filter  ? help  q quit"
    };
    Line::styled(keys, Style::new().add_modifier(Modifier::DIM))
}

fn bar(percent: f64) -> String {
    const WIDTH: usize = 8;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 8")]
    let full = (percent.clamp(0.0, 100.0) / 100.0 * 8.0).round() as usize;
    format!("[{}{}]", "|".repeat(full), " ".repeat(WIDTH - full))
}

#[expect(clippy::cast_precision_loss, reason = "a percentage is shown")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

fn level(percent: f64) -> Color {
    match percent {
        high if high >= 90.0 => Color::Red,
        middle if middle >= 70.0 => Color::Yellow,
        _ => Color::Green,
    }
}

fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height)
}

#[cfg(test)]
mod tests {
    use super::super::state::{Item, Snapshot};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn item(id: &str, cells: &[&str], is_sandbox: bool) -> Item {
        let cells = cells.iter().map(|&cell| cell.to_owned()).collect();
        Item { id: id.into(), cells, health: Health::Well, is_sandbox }
    }

    fn model() -> Model {
        let mut model = Model::new("10.0.0.2");
        model.take(Snapshot {
            version: "v0.1.0".into(),
            pods: vec![
                item("default/web-n", &["default/web-n", "READY", "", "", ""], true),
                item(
                    "default/web-n:nginx:0123456789ab",
                    &["└─ nginx:0123456789ab", "RUNNING", "1.5%", "12 MB", "nginx:1.27"],
                    false,
                ),
            ],
            services: vec![item("kubelet", &["kubelet", "Running", "OK", "ready"], false)],
            cpu_percent: Some(50.0),
            cpus: 2,
            memory_used: 500_000_000,
            memory_total: 2_000_000_000,
            load: [0.1, 0.2, 0.3],
        });
        model
    }

    fn screen(model: &mut Model, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model, true)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_terminal_of_80_columns_shows_pods_and_use() {
        let shown = screen(&mut model(), 80, 24);
        for part in [
            "10.0.0.2",
            "CPU [||||    ]  50% of 2",
            "500 MB/2.0 GB",
            "1 Pods 1",
            "└─ nginx:0123456789ab",
            "12 MB",
            "q quit",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn a_log_that_is_scrolled_back_and_then_filtered_still_shows_lines() {
        let mut model = model();
        model.log = Some(Log::default());
        (0..50).for_each(|n| model.take_log(format!("line {n}\n").as_bytes()));
        model.log.as_mut().unwrap().back = 40;
        assert!(screen(&mut model, 80, 24).contains("line 5"));
        // Shorter than what is looked for: the filter is on the screen too.
        model.filter = "ne 7".into();
        assert!(screen(&mut model, 80, 24).contains("line 7"));
    }

    #[test]
    fn a_wrapped_line_is_whole() {
        assert_eq!(wrapped("abcde", 2), ["ab", "cd", "e"]);
        assert_eq!(wrapped("日本", 3), ["日", "本"]);
        assert_eq!(wrapped("", 3), [""]);
    }

    #[test]
    fn no_terminal_is_too_small() {
        for (width, height) in [(1, 1), (10, 3), (300, 80)] {
            let mut model = model();
            model.help = true;
            screen(&mut model, width, height);
            model.help = false;
            let mut log = Log::default();
            log.wrap = true;
            model.log = Some(log);
            model.take_log("a long line of the log\n".repeat(5).as_bytes());
            screen(&mut model, width, height);
        }
    }
}
