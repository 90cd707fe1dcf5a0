//! Kubernetes' quantities: `100m` of a processor, `1Gi` of memory.

/// Parses a quantity into its number: processors, bytes. `None` for what is none.
///
/// The forms are those of `k8s.io/apimachinery/pkg/api/resource`: a decimal number with a suffix of 1024 (`Ki` to `Ei`), of
/// 1000 (`n`, `u`, `m`, `k` to `E`) or an exponent (`e3`).
pub fn parse(text: &str) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024_f64.powi(2),
        "Gi" => 1024_f64.powi(3),
        "Ti" => 1024_f64.powi(4),
        "Pi" => 1024_f64.powi(5),
        "Ei" => 1024_f64.powi(6),
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood_and_nothing_else() {
        let quantities = [
            ("2", 2.0),
            ("100m", 0.1),
            ("12345678n", 0.012_345_678),
            ("5u", 5e-6),
            ("1.5Gi", 1_610_612_736.0),
            ("1e3", 1e3),
        ];
        for (text, number) in quantities {
            let found = parse(text).unwrap();
            assert!((found - number).abs() <= number * 1e-12, "{text}: {found}");
        }
        assert_eq!(
            (parse("64Mi"), parse("1E"), parse("128974848000m")),
            (Some(67_108_864.0), Some(1e18), Some(128_974_848.0))
        );
        for text in ["", "Gi", "1 Gi", "1GiB", "1e", "many", "1.2.3"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
