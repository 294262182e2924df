namespace muonp {}
