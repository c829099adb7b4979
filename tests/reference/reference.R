# Reference values for transferstats, from R. Run in this folder: Rscript reference.R
# Reads input/*.csv (made by make_inputs.py), writes expected/*.csv and sessionInfo.txt.
suppressPackageStartupMessages({
  library(minpack.lm); library(broom); library(vegan); library(ecodist); library(sna); library(psych)
  library(lme4); library(lmerTest); library(emmeans); library(effectsize); library(metafor)
  library(clubSandwich); library(boot)
})
set.seed(20070401)
input <- function(name) read.csv(file.path("input", paste0(name, ".csv")))
save_csv <- function(frame, name) {
  numeric <- vapply(frame, is.double, logical(1))
  frame[numeric] <- lapply(frame[numeric], function(v) sprintf("%.17g", v))
  write.csv(frame, file.path("expected", paste0(name, ".csv")), row.names = FALSE, quote = FALSE)
}
dir.create("expected", showWarnings = FALSE)
control <- nls.lm.control(ftol = 1e-15, ptol = 1e-15, gtol = 0, maxiter = 1000)

# Curves: nlsLM (weighted and not), lm, isoreg, AICc. Starts are the answers' neighbourhood: R has no others.
aicc <- function(fit) { k <- attr(logLik(fit), "df"); n <- nobs(fit); AIC(fit) + 2 * k * (k + 1) / (n - k - 1) }
rows <- list()
note <- function(curve, family, weighted, term, value)
  rows[[length(rows) + 1]] <<- data.frame(curve, family, weighted, term, value)
curves <- input("curves")
for (one in unique(curves$curve)) for (weighted in c(TRUE, FALSE)) {
  d <- curves[curves$curve == one, ]; w <- if (weighted) d$weight else rep(1, nrow(d)); d$w <- w
  up <- sign(mean(d$y)) * max(abs(d$y))
  fits <- list(
    constant = lm(y ~ 1, d, weights = w), linear = lm(y ~ x, d, weights = w), log = lm(y ~ log(x), d, weights = w),
    power = try(nlsLM(y ~ a * x^b, d, start = list(a = up / 2, b = .4), weights = w, control = control), TRUE),
    saturating = try(nlsLM(y ~ a * (1 - exp(-x / tau)), d, start = list(a = up, tau = 2), weights = w, control = control), TRUE),
    michaelis_menten = try(nlsLM(y ~ a * x / (c + x), d, start = list(a = up, c = 2), weights = w, control = control), TRUE))
  names_lm <- list(constant = "a", linear = c("a", "b"), log = c("a", "b"))
  for (family in names(fits)) {
    fit <- fits[[family]]
    if (inherits(fit, "try-error")) next
    values <- coef(fit); if (family %in% names(names_lm)) names(values) <- names_lm[[family]]
    for (term in names(values)) note(one, family, weighted, term, values[[term]])
    note(one, family, weighted, "rss", deviance(fit)); note(one, family, weighted, "aicc", aicc(fit))
  }
  if (!weighted) for (i in seq_along(d$x)) note(one, "isotonic", weighted, paste0("fitted_", i), isoreg(d$x, d$y)$yf[i])
}
save_csv(do.call(rbind, rows), "curves")

# Regression on cells: estimates, and means by direction.
cells <- input("cells")
rows <- list()
for (formula in c("penalty ~ log(distance) * direction + C(target)", "penalty ~ distance + similarity", "penalty ~ distance * direction")) {
  rhs <- gsub("C(target)", "factor(target)", formula, fixed = TRUE)
  fit <- lm(as.formula(rhs), cells)
  rows[[formula]] <- data.frame(formula = formula, tidy(fit)[, c("term", "estimate")], r_squared = glance(fit)$r.squared)
}
save_csv(do.call(rbind, rows), "regression")
em <- as.data.frame(emmeans(lm(penalty ~ direction, cells), "direction"))
save_csv(data.frame(direction = em$direction, mean = em$emmean), "direction_means")

# Mantel and QAP.
L <- max(cells$source) + 1
as_matrix <- function(column) { m <- matrix(0, L, L); m[cbind(cells$source + 1, cells$target + 1)] <- cells[[column]]; m }
P <- as_matrix("penalty"); D <- as_matrix("distance"); S <- as_matrix("similarity")
F <- matrix(0, L, L); F[upper.tri(F)] <- 1
sym <- (P + t(P)) / 2; sims <- (S + t(S)) / 2
rows <- list()
note <- function(test, term, statistic, value) rows[[length(rows) + 1]] <<- data.frame(test, term, statistic, value)
v <- suppressMessages(vegan::mantel(as.dist(D), as.dist(sym), permutations = how(complete = TRUE, maxperm = 1000)))
note("vegan_mantel", "x1", "r", v$statistic); note("vegan_mantel", "x1", "p_greater", v$signif)
note("vegan_mantel", "x1", "n", length(v$perm))
v <- suppressMessages(vegan::mantel(as.dist(sims), as.dist(sym), method = "spearman", permutations = how(complete = TRUE, maxperm = 1000)))
note("vegan_mantel_rank", "x1", "r", v$statistic); note("vegan_mantel_rank", "x1", "p_greater", v$signif)
e <- ecodist::mantel(as.dist(sym) ~ as.dist(D), nperm = 100000, nboot = 0)
note("ecodist_mantel", "x1", "r", e[["mantelr"]]); note("ecodist_mantel", "x1", "p_greater", e[["pval1"]])
note("ecodist_mantel", "x1", "p_two", e[["pval3"]])
X <- array(0, c(2, L, L)); X[1, , ] <- D; X[2, , ] <- F
for (null in c("qap", "qapy")) {
  fit <- netlm(P, X, nullhyp = null, reps = 20000)
  for (j in 1:2) {
    term <- c("distance", "forward")[j]
    note(paste0("sna_", null), term, "estimate", fit$coefficients[j + 1]); note(paste0("sna_", null), term, "t", fit$tstat[j + 1])
    note(paste0("sna_", null), term, "p_two", fit$pgreqabs[j + 1]); note(paste0("sna_", null), term, "p_greater", fit$pgreq[j + 1])
  }
}
X[2, , ] <- S
fit <- netlm(P, X, nullhyp = "qap", reps = 20000)
for (j in 1:2) {
  term <- c("distance", "similarity")[j]
  note("sna_similarity", term, "t", fit$tstat[j + 1]); note("sna_similarity", term, "p_two", fit$pgreqabs[j + 1])
}
save_csv(do.call(rbind, rows), "permutation")

# Reliability over seeds.
by_seed <- input("seed_cells")
wide <- reshape(by_seed[, c("seed", "cell", "penalty")], idvar = "cell", timevar = "seed", direction = "wide")[, -1]
# lme4's boundary rounding is avoided: psych's own ANOVA route gives the exact mean squares.
icc <- psych::ICC(wide, lmer = FALSE)$results
save_csv(data.frame(type = icc$type, icc = icc$ICC, F = icc$F, df1 = as.double(icc$df1), p = icc$p,
                    low = icc[["lower bound"]], high = icc[["upper bound"]]), "icc")

# Mixed models: random intercepts of slopes, and the same on cells with crossed random slopes.
slopes <- input("slopes")
fit <- lmer(slope ~ 1 + (1 | seed) + (1 | unit), slopes, control = lmerControl(optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-14)))
vc <- as.data.frame(VarCorr(fit)); s <- summary(fit)$coefficients
long <- input("penalties"); long$distance <- long$distance - mean(long$distance)
full <- suppressWarnings(lmer(penalty ~ distance + (1 + distance || seed) + (1 + distance || unit), long))
intercepts <- lmer(penalty ~ distance + (1 | seed) + (1 | unit), long)
fs <- summary(full)$coefficients["distance", ]; is <- summary(intercepts)$coefficients["distance", ]
save_csv(data.frame(
  model = c("slopes", "cells", "intercepts"), estimate = c(s[1, "Estimate"], fs[["Estimate"]], is[["Estimate"]]),
  std_error = c(s[1, "Std. Error"], fs[["Std. Error"]], is[["Std. Error"]]), df = c(s[1, "df"], fs[["df"]], is[["df"]]),
  seed = c(vc$vcov[vc$grp == "seed"], NA, NA), unit = c(vc$vcov[vc$grp == "unit"], NA, NA), residual = c(sigma(fit)^2, NA, NA)), "mixed")

# One factor: cluster-robust variance with Satterthwaite df is A with K - 1.
fit <- lm(penalty ~ distance, by_seed)
cr <- coef_test(fit, vcov = "CR2", cluster = by_seed$seed)
ci <- conf_int(fit, vcov = "CR2", cluster = by_seed$seed)
save_csv(data.frame(term = c("intercept", "slope"), estimate = cr$beta, std_error = cr$SE, df = cr$df_Satt,
                    conf_low = ci$CI_L, conf_high = ci$CI_U), "clubsandwich")

# Equivalence: two one-sided tests, base R and emmeans; smallest = 0.05.
value <- input("samples")$value; delta <- 0.05
upper <- t.test(value, mu = delta, alternative = "less"); lower <- t.test(value, mu = -delta, alternative = "greater")
eq <- as.data.frame(test(emmeans(lm(value ~ 1), ~ 1), delta = delta, side = "equivalence"))
two <- t.test(value); inner <- t.test(value, conf.level = .9)
hedges <- effectsize::hedges_g(value)
save_csv(data.frame(
  estimate = mean(value), std_error = sd(value) / sqrt(length(value)), df = two$parameter[[1]],
  conf_low = two$conf.int[1], conf_high = two$conf.int[2], inner_low = inner$conf.int[1], inner_high = inner$conf.int[2],
  p_zero = two$p.value, p_upper = upper$p.value, p_lower = lower$p.value, p_tost_emmeans = eq$p.value,
  p_exceeds = t.test(value, mu = delta, alternative = "greater")$p.value, hedges_g = hedges$Hedges_g), "equivalence")

# Multiplicity and meta-analysis.
p <- input("p_values")$p
save_csv(data.frame(p = p, holm = p.adjust(p, "holm"), bonferroni = p.adjust(p, "bonferroni"), BH = p.adjust(p, "BH"), BY = p.adjust(p, "BY")), "p_adjust")
effects <- input("effects"); rows <- list()
for (method in c("DL", "PM", "FE")) {
  m <- rma(effect, variance, data = effects, method = method, test = if (method == "FE") "z" else "knha", control = list(tol = 1e-14, maxiter = 1000))
  rows[[method]] <- data.frame(method, estimate = m$beta[1], std_error = m$se, conf_low = m$ci.lb, conf_high = m$ci.ub, tau2 = m$tau2, i2 = m$I2, q = m$QE, p = m$pval)
}
save_csv(do.call(rbind, rows), "meta")

# One-way bootstrap of a mean: what percentile, basic and BCa intervals should be with one resampled factor.
b <- boot(value, function(v, i) mean(v[i]), R = 20000)
ci <- boot.ci(b, type = c("basic", "perc", "bca"))
save_csv(data.frame(kind = c("basic", "percentile", "bca"), low = c(ci$basic[4], ci$percent[4], ci$bca[4]), high = c(ci$basic[5], ci$percent[5], ci$bca[5])), "boot")

writeLines(sub("^(Matrix products:|BLAS:|LAPACK:).*", "\\1 (not recorded)", capture.output(sessionInfo())), "sessionInfo.txt")
