//! A Homebrew formula: where the archives of a release are, and their sums.

use anyhow::{Result, ensure};

/// The formula for the archives of these platforms, each with its SHA-256.
///
/// # Errors
/// A platform that Homebrew knows nothing of, or an address that could not be written into a formula.
pub fn write(version: &str, url: &str, archives: &[(String, String)]) -> Result<String> {
    let url = url.trim_end_matches('/');
    let is_plain =
        url.starts_with("https://") && url.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '#' | '\\'));
    ensure!(is_plain, "{url:?} is no address that a formula can have: https:// and nothing to be quoted");
    let mut text = format!(
        "class Stackctl < Formula\n  desc \"Brings up a web app on a highly available PostgreSQL, and proves its failover\"\n  \
         homepage \"{url}\"\n  version \"{version}\"\n  license \"Apache-2.0\"\n"
    );
    for (target, sum) in archives {
        let processor = match target.split('-').next() {
            Some("x86_64") => "intel",
            Some("aarch64") => "arm",
            _ => "",
        };
        let system = if target.ends_with("apple-darwin") { "macos" } else { "linux" };
        ensure!(!processor.is_empty(), "Homebrew has nothing for {target}");
        text += &format!(
            "\n  on_{system} do\n    on_{processor} do\n      url \"{url}/stackctl-{version}-{target}.tar.gz\"\n      \
             sha256 \"{sum}\"\n    end\n  end\n"
        );
    }
    text += "\n  def install\n    bin.install \"stackctl\"\n    man1.install Dir[\"man/*.1\"]\n    \
             bash_completion.install \"completions/stackctl.bash\" => \"stackctl\"\n    \
             fish_completion.install \"completions/stackctl.fish\"\n    \
             zsh_completion.install \"completions/stackctl.zsh\" => \"_stackctl\"\n  end\n\n  \
             test do\n    assert_match version.to_s, shell_output(\"#{bin}/stackctl --version\")\n  end\nend\n";
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_names_each_archive_with_its_sum() {
        let archives = [("x86_64-unknown-linux-musl".to_owned(), "aa".repeat(32))];
        let text = write("1.2.3", "https://downloads.example.com/1.2.3/", &archives).unwrap();
        let expected = format!(
            "  on_linux do\n    on_intel do\n      url \"https://downloads.example.com/1.2.3/stackctl-1.2.3-x86_64-unknown-linux-musl\
             .tar.gz\"\n      sha256 \"{}\"\n    end\n  end\n",
            "aa".repeat(32)
        );
        assert!(text.contains(&expected), "{text}");
        assert!(text.starts_with("class Stackctl < Formula\n") && text.ends_with("  end\nend\n"), "{text}");
    }

    #[test]
    fn an_address_or_a_platform_that_cannot_be_written_is_refused() {
        let archive = |target: &str| [(target.to_owned(), String::new())];
        for url in ["http://example.com", "https://example.com/\"#{x}", ""] {
            assert!(write("1", url, &archive("x86_64-apple-darwin")).is_err(), "{url}");
        }
        assert!(write("1", "https://example.com", &archive("riscv64gc-unknown-linux-gnu")).is_err());
    }
}
