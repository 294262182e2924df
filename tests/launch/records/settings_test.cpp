#include "launch/records/settings.h"

#include <gmock/gmock.h>

#include "tests/support/file_test.h"

namespace muonp::launch {
namespace {

using ::testing::ElementsAre;
using ::testing::FieldsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

class SettingsTest : public test::FileTest {};

TEST_F(SettingsTest, AreValuesByPath) {
  make("c.yaml",
       "run: {name: \"a: <b>\", steps: 3}\ncheckpoint: {allow: [data.shuffle, x]}\noptimizer:\n  groups:\n    - {name: one, "
       "lr: 1.0e-3}\n"
       "    - {name: two}\neval: []\n");
  EXPECT_THAT(read_settings(path("c.yaml")),
              ElementsAre(Pair("checkpoint.allow", "[data.shuffle, x]"), Pair("eval", "[]"),
                          Pair("optimizer.groups.0.lr", "1.0e-3"), Pair("optimizer.groups.0.name", "one"),
                          Pair("optimizer.groups.1.name", "two"), Pair("run.name", "a: <b>"), Pair("run.steps", "3")));
}

TEST_F(SettingsTest, ThoseThatDifferAreShown) {
  const Settings a = {{"run.name", "a"}, {"run.seed", "1"}, {"optimizer.matrices.p", "1/2"}, {"device", "cpu"}};
  const Settings b = {
      {"run.name", "b"}, {"run.seed", "2"}, {"optimizer.matrices.p", "1/2"}, {"extra", "x"}, {"device", "cpu"}};
  EXPECT_THAT(differing_settings({a, b}),
              ElementsAre(FieldsAre("extra", ElementsAre("–", "x")), FieldsAre("run.seed", ElementsAre("1", "2"))));
  EXPECT_THAT(differing_settings({a, a, a}), IsEmpty());
  EXPECT_THAT(differing_settings({a}), IsEmpty());
  EXPECT_THAT(differing_settings({a, a, b}), ElementsAre(FieldsAre("extra", ElementsAre("–", "–", "x")),
                                                         FieldsAre("run.seed", ElementsAre("1", "1", "2"))));
}

}  // namespace
}  // namespace muonp::launch
