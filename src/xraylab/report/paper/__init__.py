"""The report for a paper: every figure and table in the formats of journals, and a methods section made of facts."""
