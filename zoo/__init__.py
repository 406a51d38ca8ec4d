"""perception-zoo: perception models that carry measured numbers per weather and light condition."""
