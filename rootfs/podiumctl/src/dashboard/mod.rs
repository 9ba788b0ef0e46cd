//! The terminal UI: keys and news go into the model, the model is drawn. One task, one thread that waits for keys.
//!
//! The terminal is given back as it was however this ends: by q, by Ctrl-C, by a signal, by an error, by a panic.

mod feed;
mod state;
mod view;

use crate::client::Node;
use crate::fault::Fault;
use crate::say;
use anyhow::{Context, Result};
use feed::News;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use state::{Log, Model, Wish};
use std::io::IsTerminal;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Keys and news that wait to be drawn: a burst of typing, a burst of a log.
const WAITING: usize = 64;
/// How often the thread that waits for keys looks whether it is still wanted.
const KEYS_LIMIT: Duration = Duration::from_millis(200);

/// Shows one node until the person has seen enough.
///
/// # Errors
/// There is no terminal, or it cannot be drawn on.
pub(crate) async fn run(node: Node) -> Result<()> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let fault = Fault::usage("the dashboard needs a terminal");
        return Err(fault.remedy("for programs there are get, containers and services with -o json").into());
    }
    // It also makes a panic give the terminal back before it is reported.
    let mut terminal = ratatui::try_init().context("prepare the terminal")?;
    let shown = show(&mut terminal, node).await;
    ratatui::try_restore().context("give the terminal back")?;
    shown
}

async fn show(terminal: &mut DefaultTerminal, node: Node) -> Result<()> {
    let colours = say::on_stdout().is_coloured();
    let (news_sender, mut news) = mpsc::channel(WAITING);
    let (key_sender, mut keys) = mpsc::channel(WAITING);
    std::thread::spawn(move || wait_for_keys(&key_sender));
    let pictures = tokio::spawn(feed::pictures(node.clone(), news_sender.clone()));
    let mut ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()]
        .into_iter()
        .map(signal)
        .collect::<Result<Vec<_>, _>>()
        .context("wait for signals")?;
    let [terminated, hung_up, interrupted] = ends.as_mut_slice() else { return Ok(()) };
    let mut model = Model::new(&node.name);
    let mut log: Option<JoinHandle<()>> = None;
    loop {
        terminal.draw(|frame| view::draw(frame, &mut model, colours)).context("draw")?;
        let wish = tokio::select! {
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => model.key(key),
                Some(_) => None,
                None => Some(Wish::Quit),
            },
            Some(one) = news.recv() => {
                take(&mut model, one);
                // What else has come is drawn with it.
                while let Ok(one) = news.try_recv() {
                    take(&mut model, one);
                }
                None
            }
            _ = terminated.recv() => Some(Wish::Quit),
            _ = hung_up.recv() => Some(Wish::Quit),
            _ = interrupted.recv() => Some(Wish::Quit),
        };
        let Some(wish) = wish else { continue };
        if let Some(old) = log.take() {
            old.abort();
            // It may have left something of the old log.
            while let Ok(one) = news.try_recv() {
                if !matches!(one, News::Log(_) | News::LogEnd(_)) {
                    take(&mut model, one);
                }
            }
        }
        match wish {
            Wish::Quit => break,
            Wish::CloseLog => {}
            Wish::OpenLog(id, is_pod) => {
                log = Some(tokio::spawn(feed::log(node.clone(), id, is_pod, news_sender.clone())));
            }
        }
    }
    pictures.abort();
    Ok(())
}

fn take(model: &mut Model, news: News) {
    match news {
        News::Picture(snapshot) => model.take(*snapshot),
        News::Fault(fault) => model.fault = Some(fault),
        News::Log(bytes) => model.take_log(&bytes),
        News::LogEnd(why) => {
            if let Some(Log { end, .. }) = &mut model.log {
                *end = Some(why);
            }
        }
    }
}

/// Reading a terminal blocks, so it has a thread; the thread ends soon after the dashboard.
fn wait_for_keys(keys: &mpsc::Sender<Event>) {
    while !keys.is_closed() {
        match event::poll(KEYS_LIMIT) {
            Ok(true) => {
                let Ok(event) = event::read() else { return };
                if keys.blocking_send(event).is_err() {
                    return;
                }
            }
            Ok(false) => {}
            Err(_) => return,
        }
    }
}
