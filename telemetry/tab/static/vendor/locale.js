// uPlot hands the browser's language to Intl as it is loaded: one that Intl refuses ("en-US@posix") becomes English.
try { new Intl.NumberFormat(navigator.language); } catch { Object.defineProperty(navigator, "language", { value: "en-US" }); }
