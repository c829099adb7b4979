# transferstats from R.
#
#   source(system2("transferstats", "r-path", stdout = TRUE))
#
# A finished report, without Python:
#   read_report(folder)            all its tables, as in its files: read_report("report")$claims
#   read_numbers(folder)           its numbers by name, rounded as text, for inline R
# A run, or anybody's losses, through reticulate:
#   read_grid(source)              folder of a store, long table in a file, or data frame
#   evaluate(grid, smallest)       the standard claims;  sentence(x), report(x, folder)
#   transferstats()                everything else: transferstats()$fit_decay(grid, "saturating")
# Views of every result, and of a report that was read:
#   tidy(x), glance(x)             broom's columns: term, estimate, std.error, p.value, conf.low, ...
#   augment(x, grid)               cells with .fitted and .resid, of decay fits and regressions
#   plot_data(x, figure)           the numbers behind a figure
#
# Everything crosses from Python as CSV text: data frames and arrays do not cross every reticulate.
# Names that start with a dot are internal.

# ---- generics: those of broom and modelsummary where the package generics is installed ----

.ts_generic <- function(name, fallback) {
  if (requireNamespace("generics", quietly = TRUE)) getExportedValue("generics", name) else fallback
}
tidy <- .ts_generic("tidy", function(x, ...) UseMethod("tidy"))
glance <- .ts_generic("glance", function(x, ...) UseMethod("glance"))
augment <- .ts_generic("augment", function(x, ...) UseMethod("augment"))
plot_data <- function(x, figure = 1, ...) UseMethod("plot_data")

# ---- a run, through Python ----

transferstats <- function() .ts_import("transferstats")

read_grid <- function(source, columns = NULL, loss_unit = NULL, bytes_per_token = NULL, score = NULL,
                      loss = NULL, subject = NULL, balanced_subset = FALSE) {
  .ts_refuse_na(columns = columns, loss_unit = loss_unit, bytes_per_token = bytes_per_token, score = score,
                loss = loss, subject = subject, balanced_subset = balanced_subset)
  if (is.data.frame(source)) {
    frame <- source
    source <- tempfile(fileext = ".csv")
    on.exit(unlink(source))
    .ts_write(frame, source)
    if (is.null(subject)) subject <- "subject"  # not the name of the temporary file
  }
  transferstats()$read_grid(path.expand(source), columns = as.list(columns), loss_unit = loss_unit,
                            bytes_per_token = bytes_per_token, score = score, loss = loss, subject = subject,
                            balanced_subset = balanced_subset)
}

evaluate <- function(grid, smallest, conf_level = 0.95) {
  .ts_refuse_na(smallest = smallest, conf_level = conf_level)
  transferstats()$evaluate(grid, smallest = smallest, conf_level = conf_level)
}

sentence <- function(x) transferstats()$sentence(x)

report <- function(x, folder) {
  transferstats()$report(x, path.expand(folder))
  invisible(read_report(folder))
}

# Every result class of Python inherits from this one, which reticulate puts into class(x).
tidy.transferstats.results.base.Result <- function(x, ...) .ts_broom(.ts_csv(x$csv()))

glance.transferstats.results.base.Result <- function(x, ...) .ts_broom(.ts_csv(.ts_bridge()$glance_csv(x)))

augment.transferstats.results.base.Result <- function(x, data, loss = NULL, distance = NULL, ...) {
  if (missing(data)) stop("augment(x, grid) needs the grid that x was fitted to", call. = FALSE)
  .ts_refuse_na(loss = loss, distance = distance)
  if (is.matrix(distance)) distance <- lapply(seq_len(nrow(distance)), function(row) as.list(distance[row, ]))
  frame <- .ts_csv(.ts_bridge()$augment_csv(x, data, loss, distance))
  fit <- match(c("fitted", "resid"), names(frame))
  names(frame)[fit] <- c(".fitted", ".resid")
  frame
}

plot_data.transferstats.results.base.Result <- function(x, figure = 1, ...) {
  .ts_broom(.ts_csv(.ts_pick(.ts_bridge()$plot_csv(x), figure)))
}

as.data.frame.transferstats.results.base.Result <- function(x, ...) tidy(x)

print.transferstats.results.base.Result <- function(x, ...) {
  print(tidy(x), ...)
  invisible(x)
}

# ---- a finished report, without Python ----

read_report <- function(folder) {
  files <- list.files(file.path(folder, "tables"), pattern = "[.]csv$", full.names = TRUE)
  if (!length(files)) stop("no tables in ", folder, ": is it the folder of a report?", call. = FALSE)
  tables <- lapply(files, .ts_csv_file)
  names(tables) <- sub("[.]csv$", "", basename(files))
  structure(tables, class = "transferstats_report", folder = folder)
}

read_numbers <- function(folder, what = c("text", "value", "meaning")) {
  what <- match.arg(what)
  lapply(.ts_json(file.path(folder, "numbers.json")), function(one) if (is.null(one[[what]])) NA else one[[what]])
}

tidy.transferstats_report <- function(x, ...) .ts_broom(x[["claims"]])

glance.transferstats_report <- function(x, ...) {
  made <- .ts_json(file.path(attr(x, "folder"), "manifest.json"))
  verdicts <- table(factor(x[["claims"]]$verdict, unique(x[["claims"]]$verdict)))
  one <- data.frame(made[c("subject", "loss", "unit", "smallest", "conf_level")], n_datasets = length(made$datasets))
  .ts_broom(cbind(one, t(as.matrix(verdicts))))
}

plot_data.transferstats_report <- function(x, figure = 1, ...) {
  figures <- unclass(x)[startsWith(names(x), "figure-")]
  names(figures) <- sub("^figure-", "", names(figures))
  .ts_broom(.ts_pick(figures, figure))
}

print.transferstats_report <- function(x, ...) {
  cat("Tables of the report in ", attr(x, "folder"), ":\n", sep = "")
  cat(paste0("  $`", names(x), "`, ", vapply(unclass(x), nrow, 0L), " rows\n"), sep = "")
  invisible(x)
}

# ---- internal: Python ----

.ts_import <- function(module) {
  if (!requireNamespace("reticulate", quietly = TRUE)) {
    stop("results of Python need the R package reticulate: install.packages(\"reticulate\")", call. = FALSE)
  }
  if (!reticulate::py_available() && Sys.getenv("RETICULATE_PYTHON") == "") .ts_choose_python()
  tryCatch(reticulate::import(module), error = function(problem) {
    stop("R cannot import transferstats from Python: put the folder of the `transferstats` command on PATH, or set ",
         "RETICULATE_PYTHON to the Python that has it, and start R again\n", conditionMessage(problem), call. = FALSE)
  })
}

# The Python whose `transferstats` command is on PATH, rather than whichever reticulate comes upon first.
.ts_choose_python <- function() {
  command <- Sys.which("transferstats")
  if (!nzchar(command)) return()
  python <- suppressWarnings(system2(command, c("r-path", "--python"), stdout = TRUE, stderr = FALSE))
  if (length(python) == 1) Sys.setenv(RETICULATE_PYTHON = python)
}

# NA would reach Python as True, as "NA" or as a number, depending on its type.
.ts_refuse_na <- function(...) {
  given <- list(...)
  wrong <- names(given)[vapply(given, anyNA, NA)]
  if (length(wrong)) stop(wrong[1], " is NA: give a value, or leave it out", call. = FALSE)
}

.ts_bridge <- function() .ts_import("transferstats.reporting.bridge")

# ---- internal: text ----

# Columns of words: kept as text when every cell is empty, a number or "T".
.ts_words <- c("term", "unit", "method", "note", "dataset", "claim", "estimand", "verdict", "reason", "caveats",
               "family", "direction", "part", "series", "readout", "world", "layer", "source_layer", "target_layer",
               "subject", "loss", "formula", "first", "second", "conclusion", "question", "scale")

.ts_csv <- function(text) .ts_columns(utils::read.csv(text = text, colClasses = "character", na.strings = NULL,
                                                      check.names = FALSE))

.ts_csv_file <- function(path) .ts_columns(utils::read.csv(path, colClasses = "character", na.strings = NULL,
                                                           check.names = FALSE, encoding = "UTF-8"))

.ts_columns <- function(frame) {
  words <- names(frame) %in% .ts_words
  frame[words] <- lapply(frame[words], function(cells) replace(cells, cells == "NA", NA))
  frame[!words] <- lapply(frame[!words], utils::type.convert, na.strings = "NA", as.is = TRUE)
  empty <- vapply(frame, function(cells) is.logical(cells) && all(is.na(cells)), NA)
  frame[empty] <- lapply(frame[empty], as.numeric)  # a number that no row has is still a number
  frame
}

# Names that tools around broom look for; all other columns keep theirs.
.ts_broom <- function(frame) {
  dotted <- c(std_error = "std.error", p_value = "p.value", conf_low = "conf.low", conf_high = "conf.high",
              conf_level = "conf.level", r_squared = "r.squared", p_adjusted = "adj.p.value")
  known <- names(frame) %in% names(dotted)
  names(frame)[known] <- dotted[names(frame)[known]]
  frame
}

# A data frame for Python: every digit, and empty where R has NA, which the reader then refuses by name.
.ts_write <- function(frame, path) {
  frame[] <- lapply(frame, function(column) {
    if (is.double(column)) ifelse(is.na(column), NA, sprintf("%.17g", column)) else as.character(column)
  })
  utils::write.csv(frame, path, row.names = FALSE, na = "", fileEncoding = "UTF-8")
}

.ts_json <- function(path) {
  if (!requireNamespace("jsonlite", quietly = TRUE)) {
    stop("reading ", basename(path), " needs the R package jsonlite: install.packages(\"jsonlite\")", call. = FALSE)
  }
  if (!file.exists(path)) stop("no ", basename(path), " in ", dirname(path), call. = FALSE)
  jsonlite::fromJSON(path, simplifyVector = FALSE)
}

.ts_pick <- function(frames, figure) {
  found <- if (is.character(figure)) match(figure, names(frames)) else figure
  if (is.na(found) || found > length(frames)) {
    stop("no figure ", figure, "; there are: ", paste(names(frames), collapse = ", "), call. = FALSE)
  }
  frames[[found]]
}

# Packages call generics::tidy from inside, where only registered methods are seen.
if (requireNamespace("generics", quietly = TRUE)) {
  for (.ts_method in ls(pattern = "^(tidy|glance|augment)[.]transferstats")) {
    registerS3method(sub("[.].*", "", .ts_method), sub("^[a-z]+[.]", "", .ts_method), get(.ts_method),
                     envir = asNamespace("generics"))
  }
}
