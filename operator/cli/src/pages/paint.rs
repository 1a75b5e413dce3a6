//! [pure] Colours, where they are wanted; and what must never reach a terminal.

use rheos_api::status::Phase;

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Plain text.
    Plain,
    /// ANSI colours.
    Colors,
}

/// What a text is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Under way, or worth a look.
    Watch,
    /// Wrong.
    Bad,
    /// A heading or a name.
    Strong,
    /// Beside the point.
    Faint,
}

impl Paint {
    /// A text in its tone.
    pub fn text(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Watch => "33",
            Tone::Bad => "31",
            Tone::Strong => "1",
            Tone::Faint => "2",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Colors => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

/// The tone of a phase.
pub fn phase(phase: Phase) -> Tone {
    match phase {
        Phase::Running | Phase::Finished => Tone::Good,
        Phase::Failed | Phase::Failing | Phase::RollingBack => Tone::Bad,
        Phase::Suspended => Tone::Faint,
        Phase::Created | Phase::Deploying | Phase::Upgrading | Phase::Rescaling => Tone::Watch,
    }
}

/// A text from outside (a log, an event, an error) without what could drive a terminal: control characters, and marks
/// that turn the direction of text.
pub fn clean(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .filter_map(|c| if c == '\n' || c == '\t' { Some(' ') } else { Some(c).filter(|c| !c.is_control() && !turns(*c)) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        assert_eq!(Paint::Plain.text(Tone::Bad, "x"), "x");
        assert_eq!(Paint::Colors.text(Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Paint::Colors.text(Tone::Plain, "x"), "x");
    }

    #[test]
    fn what_drives_a_terminal_is_left_out() {
        assert_eq!(clean("a\u{1b}[2Jb\rc\u{202e}d\nä"), "a[2Jbcd ä");
    }
}
