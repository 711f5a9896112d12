package promatrium

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// dashboardV1 is the form of a dashboard that every Grafana imports; the next one needs Grafana 12.
type dashboardV1 = dashboard.Dashboard //lint:ignore SA1019 see above

func init() {
	runtime := cog.NewRuntime() // there is one
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
}

// checkDashboard compares JSON with the types that Grafana makes from its schema. They refuse a
// field that there is not, one that is missing, and values out of their range.
func checkDashboard(text []byte) error {
	var strict, d dashboardV1
	err := strict.UnmarshalJSONStrict(text) // never nil, and what it reads is not complete
	if problems, ok := err.(cog.BuildErrors); !ok || len(problems) > 0 {
		return err
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return err
	}
	return d.Validate()
}

func readDashboard(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func loadDashboard(t *testing.T) (d dashboardV1) {
	t.Helper()
	if err := json.Unmarshal(readDashboard(t), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboardSchema checks dashboard.json, and that a mistake in it is noticed.
func TestDashboardSchema(t *testing.T) {
	text := readDashboard(t)
	if err := checkDashboard(text); err != nil {
		t.Error(err)
	}
	for what, mistake := range map[string][2]string{
		"a field of a query that there is not": {`"expr":`, `"expression":`},
		"a field of a panel that there is not": {`"gridPos":`, `"position":`},
		"an option that there is not":          {`"reduceOptions":`, `"reduction":`},
		"a style that there is not":            {`"lineWidth":`, `"width":`},
		"a title that is no text":              {`"title": "Clients"`, `"title": 7`},
		"a place beside the grid":              {`"w": 12`, `"w": 25`},
		"a variable without a type":            {`"type": "datasource"`, `"kind": "datasource"`},
	} {
		wrong := strings.Replace(string(text), mistake[0], mistake[1], 1)
		if wrong == string(text) {
			t.Errorf("%s: the dashboard has no %s", what, mistake[0])
		} else if err := checkDashboard([]byte(wrong)); err == nil {
			t.Errorf("%s: nothing notices it", what)
		}
	}
}

func TestDashboard(t *testing.T) {
	d := loadDashboard(t)
	ids := make(map[uint32]bool)
	var taken [1000][24]bool // of the grid
	for _, p := range d.Panels {
		p := p.Panel
		if p == nil || p.Id == nil || p.Title == nil || p.GridPos == nil || p.FieldConfig == nil || p.FieldConfig.Defaults.Unit == nil {
			t.Fatalf("a panel lacks an id, a title, a place or a unit: %+v", p)
		}
		if ids[*p.Id] {
			t.Errorf("%s: another panel has its id", *p.Title)
		}
		ids[*p.Id] = true
		for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				if x >= 24 || taken[y][x] {
					t.Fatalf("%s: lies over another panel, or beside the grid", *p.Title)
				}
				taken[y][x] = true
			}
		}
	}
	for _, e := range expressions(t) {
		for _, m := range exportedNames(e) {
			if !exports(m) {
				t.Errorf("%s: nothing exports %s", e, m)
			}
		}
		if len(exportedNames(e)) == 0 {
			t.Errorf("%s: names no metric", e)
		}
	}
}

// TestDashboardShowsAll has each metric on the dashboard, or here with the reason why it is not.
func TestDashboardShowsAll(t *testing.T) {
	all := strings.Join(expressions(t), "\n")
	elsewhere := map[string]string{
		"atrium_sent_events_total":       "atrium_deliveries_total, but for what has not been sent yet",
		"atrium_recovery_attempts_total": "the sum of atrium_recoveries_total",
	}
	for _, f := range families {
		name := nameOf(f)
		if _, ok := elsewhere[name]; ok == strings.Contains(all, name) {
			t.Errorf("%s is on the dashboard: %v, expected otherwise", name, !ok)
		}
	}
}

// TestAlertsNameMetrics is what promtool does not check: it takes any name.
func TestAlertsNameMetrics(t *testing.T) {
	rules, err := os.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	if names := exportedNames(string(rules)); len(names) == 0 {
		t.Error("alerts.yml names no metric")
	} else {
		for _, m := range names {
			if !exports(m) {
				t.Errorf("alerts.yml: nothing exports %s", m)
			}
		}
	}
}

// expressions returns the PromQL of all panels and variables.
func expressions(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, p := range loadDashboard(t).Panels {
		if len(p.Panel.Targets) == 0 {
			t.Errorf("%s: shows nothing", *p.Panel.Title)
		}
		for _, target := range p.Panel.Targets {
			list = append(list, target.(*prometheus.Dataquery).Expr)
		}
	}
	return list
}

var metricName = regexp.MustCompile(`\batrium_[a-z_]+`)

func exportedNames(text string) []string { return metricName.FindAllString(text, -1) }

// exports reports whether a name is that of a series.
func exports(name string) bool {
	for _, f := range families {
		if own := nameOf(f); name == own || strings.HasSuffix(own, "_seconds") && (name == own+"_bucket" || name == own+"_sum" || name == own+"_count") {
			return true
		}
	}
	return false
}

// nameOf takes the name of a family out of what its Desc says.
func nameOf(f family) string {
	_, text, _ := strings.Cut(f.desc.String(), "fqName: ")
	var name string
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&name); err != nil {
		panic(err)
	}
	return name
}
