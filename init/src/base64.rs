//! base64 text to bytes: [`decode`], for configs that come in a word of the kernel command line or a variable.
//!
//! Takes the standard and the URL-safe alphabet, padding or none, and white space, which some boot loaders' editors
//! put in. What is no base64 is told by its place; nothing is guessed.

/// Undoes base64; the error says what stands where.
///
/// # Errors
/// A character that is in neither alphabet, one that stands after the padding, or a text that was cut off.
pub fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut held, mut padding) = (0u32, 0u32, 0usize);
    let mut digits = 0usize;
    for (index, &letter) in text.iter().enumerate() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            other => return Err(format!("character {} is {:?}", index + 1, char::from(other))),
        };
        if padding > 0 {
            return Err(format!("character {} stands after the padding", index + 1));
        }
        digits += 1;
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            // The eight bits above those that are held back.
            bytes.push(u8::try_from(bits >> held & 0xFF).unwrap_or_default());
        }
    }
    // A group is four characters; one alone holds no byte, and padding fills a group up, if it is given at all.
    if digits % 4 == 1 || padding > 0 && !(digits + padding).is_multiple_of(4) || padding > 2 {
        return Err(format!("{} characters: the end is missing", digits + padding));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648_are_decoded_with_and_without_padding() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
        ] {
            assert_eq!(decode(text.as_bytes()).unwrap(), bytes.as_bytes());
            assert_eq!(decode(text.trim_end_matches('=').as_bytes()).unwrap(), bytes.as_bytes());
        }
    }

    #[test]
    fn both_alphabets_and_line_breaks_are_taken() {
        assert_eq!(decode(b"-_-_").unwrap(), decode(b"+/+/").unwrap());
        assert_eq!(decode(b"+/+/").unwrap(), [0xFB, 0xFF, 0xBF]);
        assert_eq!(decode(b"Zm9v\nYmFy\n").unwrap(), b"foobar");
    }

    #[test]
    fn what_is_no_base64_is_told_by_its_place() {
        assert_eq!(decode(b"Zm9v!").unwrap_err(), "character 5 is '!'");
        assert_eq!(decode(b"Zg==Zg==").unwrap_err(), "character 5 stands after the padding");
        assert_eq!(decode(b"Zm9vY").unwrap_err(), "5 characters: the end is missing");
        assert!(decode(b"Zg=").is_err());
        assert!(decode(b"Zm9v====").is_err());
    }

    #[test]
    fn all_bytes_survive() {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let all: Vec<u8> = (0..=255).collect();
        let mut text = Vec::new();
        for part in all.chunks(3) {
            let group =
                part.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
            for digit in 0..=part.len() {
                text.push(alphabet[(group >> (18 - 6 * digit) & 63) as usize]);
            }
        }
        assert_eq!(decode(&text).unwrap(), all);
    }
}
