//! What was measured, as a table.

/// One operation of the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub steps: usize,
    /// Milliseconds from the command to the last check that succeeded; `None` when it has no check.
    pub healthy: Option<u64>,
    /// Milliseconds from the command to the end of the run.
    pub took: u64,
    /// Records on the source's disk that the recovery point does not hold.
    pub lost: Option<u64>,
    pub note: String,
}

pub fn table(rows: &[Row]) -> String {
    let seconds = |millis: u64| format!("{:.1}s", millis as f64 / 1000.0);
    let mut text = format!(
        "{:<20} {:>5} {:>14} {:>8} {:>12}  {}\n",
        "operation", "steps", "healthy after", "took", "records lost", ""
    );
    for row in rows {
        let healthy = row.healthy.map_or_else(|| "-".to_owned(), seconds);
        let lost = row.lost.map_or_else(|| "-".to_owned(), |lost| lost.to_string());
        let took = seconds(row.took);
        text.push_str(&format!("{:<20} {:>5} {healthy:>14} {took:>8} {lost:>12}  {}\n", row.name, row.steps, row.note));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_was_measured_and_what_was_not() {
        let row = |name: &str, healthy, lost| Row {
            name: name.to_owned(),
            steps: 12,
            healthy,
            took: 20_400,
            lost,
            note: "disks clean".to_owned(),
        };
        let text = table(&[row("planned failover", Some(19_000), Some(0)), row("commit", None, None)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "planned failover        12          19.0s    20.4s            0  disks clean");
        assert_eq!(lines[2], "commit                  12              -    20.4s            -  disks clean");
    }
}
