// The page of `muonp report` as a person meets it: seen by eyes, by pointer, by keyboard, on a phone, in the dark.
//   MUONP_PICTURES=DIR   keeps the pictures there (docs/pictures)
#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/e2e/browser.h"
#include "tests/e2e/program.h"
#include "tests/launch/html/spectra_lines.h"

namespace muonp::e2e {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Every text with less contrast than WCAG 2 asks for (1.4.3: 4.5, or 3 where it is large), and every line of a curve, mark
// or border of a control with less than 3 (1.4.11). Only colours without transparency are met here, but for pale curves.
constexpr const char* kPoorContrast = R"js((() => {
  const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const poor = [];
  const check = (element, colour, least, what) => {
    const found = ratio(colour, ground(element));
    if (found < least) poor.push(`${what}: ${colour} on ${ground(element)}: ${found.toFixed(2)}`);
  };
  let texts = 0;
  for (const element of document.querySelectorAll("body *")) {
    const style = getComputedStyle(element);
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (own && element.getClientRects().length && !["SCRIPT", "STYLE"].includes(element.tagName)) {
      const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
      check(element, style.color, size >= 24 || (bold && size >= 18.66) ? 3 : 4.5, element.textContent.trim().slice(0, 30));
      ++texts;
    }
    if (element.matches(".curve:not(.behind), .dots, .mark.checkpoint")) check(element, style.stroke, 3, element.getAttribute("class"));
    if (element.matches("button")) check(element, style.borderTopColor, 3, "a button's border");
  }
  return { poor, texts };
})())js";

constexpr const char* kFocused = R"js((() => {
  const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
  return { tag: e.tagName, name: e.className || e.id || e.getAttribute("href") || e.tagName, figure: (e.closest("figure") || {}).id || "",
           outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth), top: box.top, width: box.width };
})())js";

class ReportInBrowser : public ProgramTest {
 protected:
  void SetUp() override {
    if (Browser::program().empty())
      GTEST_SKIP() << "chromium is not installed (tests/run.sh installs it): no page is looked at";
  }

  // Two runs that differ, one of them crashed and resumed, with spectra.
  void train_two() const {
    train("muonp-1-2", {"run.steps=20", "checkpoint.every=10"});
    train("muonp-1-2", {"checkpoint.every=10"});
    train("muon", {"optimizer.matrices.p=0", "checkpoint.every=10"});
    for (const char* run : {"muonp-1-2", "muon"}) add_spectra(run);
  }
  // As if the run had measured them.
  void add_spectra(const std::string& run) const {
    const std::string name = "runs/" + run + "/metrics.jsonl";
    std::string lines;
    std::istringstream metrics(read(name));
    for (std::string line; std::getline(metrics, line);) {
      lines += line + "\n";
      const int step = std::atoi(line.c_str() + 8);
      if (line.find("\"loss\"") != std::string::npos && step % 5 == 0) lines += test::spectra_line(step);
    }
    write(name, lines);
  }
  std::string report(const std::string& runs) const {
    const Outcome outcome = muonp("report " + runs + " --out page.html");
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return path("page.html");
  }

  static void expect_good(Browser& browser, const View& view) {
    SCOPED_TRACE(fmt::format("{} pixels wide, {}", view.width, view.dark ? "dark" : "light"));
    const json contrast = browser.evaluate(kPoorContrast);
    EXPECT_THAT(contrast.at("poor"), IsEmpty()) << contrast.at("poor").dump(1);
    EXPECT_GT(contrast.at("texts"), 80);
    EXPECT_LE(browser.evaluate("document.documentElement.scrollWidth"), view.width) << "the page scrolls sideways";
    EXPECT_THAT(browser.evaluate("[...document.querySelectorAll('body *')].filter(e => e.getClientRects().length && "
                                 "parseFloat(getComputedStyle(e).fontSize) < 11.5).map(e => e.outerHTML.slice(0, 80))"),
                IsEmpty());
    EXPECT_THAT(browser.evaluate(
                    "[...document.querySelectorAll('.plot > .y, .plot > .end')].filter(e => e.getBoundingClientRect().left"
                    " < 0 || e.getBoundingClientRect().right > innerWidth + 1).map(e => e.textContent)"),
                IsEmpty());
    EXPECT_EQ(browser.evaluate("getComputedStyle(document.documentElement).colorScheme"), view.dark ? "dark" : "light");
    EXPECT_THAT(browser.complaints(), IsEmpty());
  }

  static void keep(const std::string& name, const std::string& picture) {
    EXPECT_TRUE(picture.starts_with("RIFF")) << name;
    EXPECT_GT(picture.size(), 4000u) << name << ": nothing is in the picture";
    if (const char* folder = std::getenv("MUONP_PICTURES"))
      std::ofstream(fmt::format("{}/{}.webp", folder, name), std::ios::binary) << picture;
  }
};

TEST_F(ReportInBrowser, IsReadableAtEveryWidthAndInBothThemes) {
  train_two();
  Browser browser(path("browser"));
  for (const std::string runs : {"runs/muonp-1-2", "runs/muonp-1-2 runs/muon"}) {
    const std::string page = report(runs), name = runs.find(' ') == std::string::npos ? "report" : "report-runs";
    for (const int width : {1280, 390})
      for (const bool dark : {false, true}) {
        const View view{.width = width, .height = width == 1280 ? 900 : 844, .dark = dark};
        browser.open(page, view);
        expect_good(browser, view);
        keep(fmt::format("{}-{}-{}", name, width, dark ? "dark" : "light"),
             browser.picture(width, width == 1280 ? 1150 : 1250));
        if (std::getenv("MUONP_PICTURES") != nullptr)
          keep(fmt::format("whole-{}-{}-{}", name, width, dark ? "dark" : "light"),
               browser.picture(width, browser.evaluate("document.documentElement.scrollHeight")));
      }
  }
}

TEST_F(ReportInBrowser, LastValuesAreThoseOfTheRun) {
  train("one", {});
  Browser browser(path("browser"));
  browser.open(report("runs/one"), {});
  const double validation = metric("one", "val_loss").back(), loss = metric("one", "loss").back();
  const json curves = browser.evaluate("JSON.parse(document.querySelector('#loss script').textContent).curves");
  EXPECT_NEAR(curves.at(0).at("y").back(), loss, 1e-6 * loss);
  EXPECT_NEAR(curves.at(1).at("y").back(), validation, 1e-6 * validation);
  // What is drawn: the end of the line against the ticks beside it.
  const double drawn = browser.evaluate(R"js((() => {
    const plot = document.querySelector("#loss .plot"), path = plot.querySelector(".curve.strong").getAttribute("d");
    const end = Number(path.match(/ ([\d.]+)$/)[1]);
    const [a, b] = [...plot.querySelectorAll(".y")].map((e) => [parseFloat(e.style.top), Number(e.textContent)]);
    return a[1] + (end - a[0]) * (b[1] - a[1]) / (b[0] - a[0]);
  })())js");
  EXPECT_NEAR(drawn, validation, 0.005);
  const std::string ends =
      browser.evaluate("[...document.querySelectorAll('#loss .end')].map(e => e.textContent).join('|')");
  EXPECT_THAT(ends, HasSubstr(fmt::format("{:.4g}", validation)));
  EXPECT_THAT(ends, HasSubstr(fmt::format("{:.4g}", loss)));
}

TEST_F(ReportInBrowser, TheKeyboardReachesAndReadsEverything) {
  train("one", {});
  Browser browser(path("browser"));
  browser.open(report("runs/one"), {});
  const int plots =
      browser.evaluate("document.querySelectorAll('.plot').length - document.querySelectorAll('details .plot').length");
  ASSERT_GE(plots, 5);
  int reached = 0;
  std::vector<std::string> order;
  for (int i = 0; i < 60; ++i) {
    browser.press("Tab");
    const json focused = browser.evaluate(kFocused);
    if (focused.at("tag") == "BODY") break;
    order.push_back(focused.at("name"));
    EXPECT_GE(focused.at("outline"), 2) << focused << " has no visible focus";
    EXPECT_GE(focused.at("top"), 0) << focused;
    reached += focused.at("tag") == "DIV" && focused.at("figure") != "";
  }
  EXPECT_EQ(order.front(), "skip");
  EXPECT_EQ(order.at(1), "theme");
  EXPECT_EQ(reached, plots);
  const auto readout = [&] { return std::string(browser.evaluate("document.querySelector('#loss .readout').innerText")); };
  const auto spoken = [&] {
    return std::string(browser.evaluate("document.querySelector('#loss .plot').getAttribute('aria-valuetext')"));
  };
  browser.evaluate("document.querySelector('#loss .plot').focus()");
  browser.press("End");
  EXPECT_THAT(readout(), HasSubstr("step 30"));
  EXPECT_THAT(spoken(), HasSubstr(fmt::format("training {:.5g}", metric("one", "loss").back())));
  EXPECT_THAT(spoken(), HasSubstr(fmt::format("validation {:.5g}", metric("one", "val_loss").back())));
  browser.press("ArrowLeft");
  EXPECT_THAT(spoken(), HasSubstr("step 29: training " + fmt::format("{:.5g}", metric("one", "loss")[28])));
  browser.press("Home");
  EXPECT_THAT(readout(), HasSubstr("step 1\n"));
  browser.press("ArrowRight");
  browser.press("PageUp");
  EXPECT_THAT(spoken(), HasSubstr("step 5: "));
  EXPECT_EQ(browser.evaluate("document.querySelector('#loss .plot').getAttribute('aria-valuenow')"), "5");
  browser.press("Escape");
  EXPECT_EQ(browser.evaluate("document.querySelector('#loss .readout').hidden"), true);
  EXPECT_THAT(browser.complaints(), IsEmpty());
}

TEST_F(ReportInBrowser, ThePointerReadsAndTheThemeSwitches) {
  train("one", {});
  Browser browser(path("browser"));
  browser.open(report("runs/one"), {});
  const json box = browser.evaluate(
      "(() => { const b = document.querySelector('#loss .plot').getBoundingClientRect(); return [b.left, b.top, b.width]; "
      "})()");
  // Steps go from 1 to 30: the eleventh lies at 10/29 of the width.
  browser.move_pointer(box[0].get<double>() + box[2].get<double>() * 10 / 29, box[1].get<double>() + 40);
  EXPECT_THAT(std::string(browser.evaluate("document.querySelector('#loss .readout').innerText")),
              HasSubstr(fmt::format("{:.5g}", metric("one", "loss")[10])));
  browser.move_pointer(5, 5);
  EXPECT_EQ(browser.evaluate("document.querySelector('#loss .readout').hidden"), true);
  const json before = browser.evaluate("getComputedStyle(document.documentElement).backgroundColor");
  browser.evaluate("document.getElementById('theme').focus()");
  browser.press("Enter");
  EXPECT_NE(browser.evaluate("getComputedStyle(document.documentElement).backgroundColor"), before);
  EXPECT_EQ(browser.evaluate("document.getElementById('theme').textContent"), "Light theme");
  const json contrast = browser.evaluate(kPoorContrast);
  EXPECT_THAT(contrast.at("poor"), IsEmpty()) << contrast.at("poor").dump(1);
  EXPECT_THAT(browser.complaints(), IsEmpty());
}

}  // namespace muonp::e2e
