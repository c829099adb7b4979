# 5. The last step in R: verdicts, a decay curve of one's own making, and the report.
#
#   Rscript analyses/05_report.R [STORE] [FOLDER] [SMALLEST]
#
# Needs the R package reticulate, and the `transferstats` command on PATH. Nothing here needs Python syntax.

source(system2("transferstats", "r-path", stdout = TRUE))

given <- commandArgs(trailingOnly = TRUE)
store <- if (length(given) > 0) given[1] else "runs/embedded"
folder <- if (length(given) > 1) given[2] else "report"
smallest <- if (length(given) > 2) as.numeric(given[3]) else 0.05  # nats, see step 4

# The standard claims about this network.
grid <- read_grid(store)
evidence <- evaluate(grid, smallest = smallest)
cat(sentence(evidence), "\n")
print(tidy(evidence)[c("term", "dataset", "estimate", "conf.low", "conf.high", "verdict")], digits = 3)

# A model that R did not fit, looked at as if it had.
decay <- transferstats()$fit_decay(grid, family = "saturating")
print(tidy(decay)[c("dataset", "term", "estimate", "conf.low", "conf.high", "unit")], digits = 3)
cells <- augment(decay, grid)
cat("Residual SD by dataset:\n")
print(tapply(cells$.resid, cells$dataset, sd), digits = 3)

# The report, and beside it a figure in base graphics from the numbers behind ours.
report(evidence, folder)
curves <- plot_data(decay)
pdf(file.path(folder, "decay-from-R.pdf"), width = 6, height = 4)
plot(penalty ~ distance, cells, col = "grey60", xlab = "layer distance", ylab = "penalty, nats/token")
for (name in unique(curves$dataset)) {
  fitted <- subset(curves, part == "fitted" & dataset == name)
  lines(estimate ~ distance, fitted, lwd = 2)
  lines(fitted$distance, fitted$conf.low, lty = 2)
  lines(fitted$distance, fitted$conf.high, lty = 2)
}
invisible(dev.off())
cat("report:", file.path(folder, "index.html"), "\n")
