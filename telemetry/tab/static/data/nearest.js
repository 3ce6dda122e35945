// The name that a misspelt word was meant to be.

/** Return the name whose beginning has the fewest slips from a word, a letter in three at most; "": none. */
export function nearest(word, names) {
  const asked = word.toLowerCase();
  if (asked.length < 2) return "";
  const slips = (name) => Math.min(slipsOf(asked, name), slipsOf(asked, name.slice(0, asked.length)));
  const [fewest, name] = names.map((one) => [slips(one.toLowerCase()), one]).sort((a, b) => a[0] - b[0])[0] ?? [Infinity, ""];
  return fewest <= Math.max(1, asked.length / 3) ? name : "";
}

/** Return how many letters are added, left out, exchanged, or swapped with the next. */
function slipsOf(word, other) {
  const rows = [Array.from({ length: other.length + 1 }, (_, at) => at)];
  for (let i = 1; i <= word.length; i++) {
    rows.push([i]);
    for (let j = 1; j <= other.length; j++) {
      const same = word[i - 1] === other[j - 1] ? 0 : 1;
      const swapped = i > 1 && j > 1 && word[i - 1] === other[j - 2] && word[i - 2] === other[j - 1] ? rows[i - 2][j - 2] + 1 : Infinity;
      rows[i].push(Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + same, swapped));
    }
  }
  return rows[word.length][other.length];
}
