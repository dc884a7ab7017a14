package firewall

// View is a table for programs. Its field names are stable, and its texts are
// those of String.
type View struct {
	Family   string      `json:"family"`
	Name     string      `json:"name"`
	Counters []string    `json:"counters"`
	Sets     []SetView   `json:"sets"`
	Chains   []ChainView `json:"chains"`
}

// SetView is a set of addresses.
type SetView struct {
	Name     string   `json:"name"`
	Elements []string `json:"elements"`
}

// ChainView is a list of rules; Hook is "" where only other chains lead to it.
type ChainView struct {
	Name  string   `json:"name"`
	Hook  string   `json:"hook"`
	Rules []string `json:"rules"`
}

// View gives all of the table.
func (t Table) View() View {
	v := View{Family: "inet", Name: tableName, Counters: t.counters, Sets: []SetView{}, Chains: []ChainView{}}
	for _, s := range t.sets {
		out := SetView{Name: s.name}
		for _, p := range s.prefixes {
			out.Elements = append(out.Elements, prefixText(p))
		}
		v.Sets = append(v.Sets, out)
	}
	for _, c := range t.chains {
		out := ChainView{Name: c.name, Rules: []string{}}
		if c.hook != nil {
			out.Hook = c.hook.name
		}
		for _, r := range c.list {
			out.Rules = append(out.Rules, r.String())
		}
		v.Chains = append(v.Chains, out)
	}
	return v
}
